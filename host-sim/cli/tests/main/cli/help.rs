//! What `--help` says: an example everywhere, the command's own options and no others.

use super::Folder;
use predicates::str::{contains, is_empty};

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.split_once("Commands:\n").map_or("", |(_, list)| list);
    let names = list.lines().take_while(|line| line.starts_with("  "));
    let names =
        names.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

fn help(folder: &Folder, command: &str) -> String {
    let assert = folder.run(&format!("{command} --help")).success().stderr(is_empty());
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn every_help_has_an_example() {
    let folder = Folder::new();
    let whole = help(&folder, "");
    assert!(whole.contains("Examples:\n  flatmin\n"), "{whole}");
    let mut seen = 0;
    // Those of the laboratory have the help of its own program.
    for command in commands(&whole).iter().filter(|own| !["bench", "experiment"].contains(&own.as_str())) {
        let own = help(&folder, command);
        let parts = commands(&own);
        let paths = parts
            .iter()
            .map(|part| (format!("{command} {part}"), help(&folder, &format!("{command} {part}"))));
        for (path, text) in std::iter::once((command.clone(), own.clone())).chain(paths) {
            seen += 1;
            let (_, examples) = text.split_once("Example").unwrap_or_else(|| panic!("no example: {path}"));
            let name = path.rsplit(' ').next().unwrap();
            assert!(examples.contains("flatmin ") && examples.contains(name), "{path}: {examples}");
        }
    }
    assert!(seen > 25, "{seen}");
    folder.run("--version").success().stdout(contains("flatmin "));
}

/// What would have no effect is not there.
#[test]
fn commands_have_their_own_options_and_no_others() {
    let folder = Folder::new();
    let steps = ["--method", "--rho", "--learning-rate", "--epochs"];
    for (command, has, lacks) in [
        (
            "",
            &["--held-out", "--integer", "--report"][..],
            &["--loss", "--spare-classes", "--data", "--wearer"][..],
        ),
        ("tune", &["--held-out", "--integer", "--loss", "--spare-classes", "--auto"], &["--ram", "--output"]),
        ("export", &["--epochs", "--spare-classes", "--delta", "--held-out", "--integer"], &["--report"]),
        (
            "plan",
            &["--ram", "--epochs", "--report"],
            &["--train", "--integer", "--held-out", "--spare-classes"],
        ),
        ("add-class", &["--leave-out", "--rho"], &["--held-out", "--integer", "--spare-classes", "--report"]),
        (
            "sensors motion",
            &["--held-out"],
            &["--integer", "--report", "--loss", "--data", "--spare-classes"],
        ),
        ("device tune", &["--held-out", "--report", "--epochs", "--integer"], &["--interval"]),
        ("device classify", &["--data", "--layers"], &[&steps[..], &["--held-out", "--report"]].concat()),
        ("inspect", &["--replay-capacity"], &[&steps[..], &["--data"]].concat()),
    ] {
        let text = help(&folder, command);
        let named = |option: &str| {
            text.lines().any(|line| {
                line.split([' ', ',', '[', '=']).any(|word| word == option)
                    && line.trim_start().starts_with('-')
            })
        };
        has.iter().for_each(|option| assert!(named(option), "{command} has no {option}"));
        lacks.iter().for_each(|option| assert!(!named(option), "{command} has {option}"));
    }
    let tune = help(&folder, "tune");
    for heading in
        ["Samples:", "What is trained:", "How it is trained:", "Whether the tuned tail is taken:", "Output:"]
    {
        assert_eq!(tune.matches(&format!("\n{heading}\n")).count(), 1, "{heading}");
    }
}
