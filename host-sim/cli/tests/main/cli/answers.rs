//! What the binary answers: one JSON object, the same network from every kind of data, files that fit together.

use super::{Folder, bundled, floats, npy, small_model};
use flatmin_sim::wearers::{Recordings, Window};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty};
use serde_json::Value;

/// Every field that `tune --json` promises, in each run of `object`.
fn check_fields(object: &Value, methods: &[&str]) {
    let share = |value: &Value| value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share));
    assert!(share(&object["factory_accuracy"]), "{object}");
    let runs = object["runs"].as_array().unwrap();
    let found: Vec<_> = runs.iter().map(|run| run["method"].as_str().unwrap()).collect();
    assert_eq!(found, methods);
    for run in runs {
        assert!(share(&run["accuracy_f32"]) && share(&run["accuracy_int8"]), "{run}");
        assert!(run["train_ram_bytes"].as_u64().unwrap() > 100, "{run}");
        assert!(run["tail_parameters"].as_u64().unwrap() > 10, "{run}");
        assert!(u32::try_from(run["weights_crc32"].as_u64().unwrap()).is_ok(), "{run}");
        let memory: u64 =
            run["memory"].as_array().unwrap().iter().map(|m| m["bytes"].as_u64().unwrap()).sum();
        assert_eq!(memory, run["train_ram_bytes"].as_u64().unwrap(), "the purposes add up");
    }
}

#[test]
fn tune_prints_one_object_with_the_promised_fields() {
    let folder = Folder::new();
    let object = folder.json("tune --wearer 2 --epochs 3 --json");
    check_fields(&object, &["sgd", "sam", "asam", "closed-form"]);
    // As many parameters as inspect announced.
    folder.write("m.tflite", bundled());
    let inspected = folder.json("inspect m.tflite --json");
    let cuts = inspected["cuts"].as_array().unwrap();
    let deepest = cuts.iter().find(|cut| cut["layers"] == 2).unwrap();
    assert_eq!(object["runs"][0]["tail_parameters"], deepest["tail_parameters"]);
    assert_eq!(folder.files(), ["m.tflite"], "no report unless asked for");
    // The same call, the same weights; another seed, others.
    assert_eq!(folder.json("tune --wearer 2 --epochs 3 --json"), object);
    assert_ne!(folder.json("tune --wearer 2 --epochs 3 --seed 2 --json")["runs"], object["runs"]);
}

#[test]
fn a_tail_may_begin_at_a_convolution_and_be_sparse() {
    let folder = Folder::new();
    let small = "tune --wearer 2 --epochs 2 --windows-per-class 2 --layers 4 --json";
    let whole = folder.json(small);
    check_fields(&whole, &["sgd", "sam", "asam", "closed-form"]);
    let sparse = folder.json(&format!("{small} --train biases,nothing,biases,all"));
    check_fields(&sparse, &["sgd", "sam", "asam", "closed-form"]);
    folder.write("m.tflite", bundled());
    let cuts = folder.json("inspect m.tflite --json");
    let of = |layers: u64| {
        let cuts = cuts["cuts"].as_array().unwrap();
        cuts.iter().find(|cut| cut["layers"] == layers).unwrap()["tail_parameters"].as_u64().unwrap()
    };
    assert_eq!(whole["runs"][0]["tail_parameters"], of(4));
    let last = 64 * 7 + 7;
    assert_eq!(of(1), last);
    let found = sparse["runs"][0]["tail_parameters"].as_u64().unwrap();
    assert!(
        found > last + 64 && found < last + 64 + 128,
        "{found}: the biases of two layers, and the last one"
    );
}

#[test]
fn the_main_job_prints_one_object_too() {
    let folder = Folder::new();
    let object = folder.json("--method sam --epochs 1 --layers 2 --label-noise 0.2 --json");
    check_fields(&object, &["sam"]);
    let run = &object["runs"][0];
    assert_eq!(
        (&run["layers"], &run["label_noise"], &run["start"]),
        (&2.into(), &0.2.into(), &"factory".into())
    );
    assert_eq!(object["runs"][0]["subjects"].as_array().unwrap().len(), 10);
    assert!(folder.files().is_empty());
}

/// All seven layers from the factory's weights, a fifth of the labels flipped: SGD's row and ASAM's are there, and ASAM's is not below.
#[test]
fn the_main_job_shows_where_asam_is_above_sgd() {
    let object = Folder::new().json("--label-noise 0.2 --json");
    let runs = object["runs"].as_array().unwrap();
    let accuracy = |method: &str| {
        let own = runs.iter().find(|run| {
            run["layers"] == 7
                && run["start"] == "factory"
                && run["integer"] == false
                && run["method"] == method
        });
        own.and_then(|run| run["accuracy_int8"].as_f64()).unwrap()
    };
    let (sgd, asam) = (accuracy("sgd"), accuracy("asam"));
    assert!(asam >= sgd, "SGD {sgd}, ASAM {asam}");
}

/// The bundled wearer's last layer solved with the other wearers' windows as statistics; a model of one's own with and
/// without samples that it knows, with and without their labels.
#[test]
fn the_last_layer_in_closed_form() {
    let folder = Folder::new();
    let object = folder.json("tune --wearer 4 --layers 1 --label-noise 0.2 --method closed-form --json");
    check_fields(&object, &["closed-form"]);
    let accuracy = |object: &Value| object["runs"][0]["accuracy_int8"].as_f64().unwrap();
    assert!(accuracy(&object) >= object["factory_accuracy"].as_f64().unwrap());
    folder.write("m.tflite", bundled());
    let recordings = Recordings::bundled().unwrap();
    for (name, windows) in [("own", windows()), ("known", recordings.calibration(1))] {
        let values = floats(windows.iter().flat_map(|w| w.samples.iter().copied()));
        let count = windows.len();
        folder.write(&format!("{name}.npy"), npy("<f4", &format!("({count}, 100, 6)"), &values));
        let labels: Vec<u8> = windows.iter().map(|w| w.label as u8).collect();
        folder.write(&format!("{name}-y.npy"), npy("|u1", &format!("({count},)"), &labels));
    }
    let tune = "tune m.tflite --data own.npy own-y.npy --method closed-form --json";
    let mut crcs = Vec::new();
    for calibration in ["", " --calibration known.npy", " --calibration known.npy known-y.npy"] {
        let object = folder.json(&format!("{tune}{calibration}"));
        assert!(accuracy(&object) >= object["factory_accuracy"].as_f64().unwrap(), "{calibration}: {object}");
        crcs.push(object["runs"][0]["weights_crc32"].as_u64().unwrap());
    }
    assert!(crcs[0] != crcs[1] && crcs[1] != crcs[2] && crcs[0] != crcs[2], "{crcs:?}");
    let pack = "pack m.tflite -o m.pack --json --calibration known.npy known-y.npy";
    assert_eq!(folder.json(pack)["statistics_bytes"], 4 * 64 + 2 * 7 * 64 + 2 * (64 * 63 / 2));
}

#[test]
fn tables_and_reports_where_no_object_is_asked_for() {
    let folder = Folder::new();
    folder
        .run("tune --epochs 2 --report page.html")
        .success()
        .stdout(contains("SGD").and(contains("ASAM")).and(contains("factory")))
        .stderr(contains("report: page.html"));
    let page = std::fs::read_to_string(folder.path("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("</html>"));
    assert_eq!(folder.files(), ["page.html"]);
}

/// A wearer's windows, in the order of the file.
fn windows() -> Vec<Window> {
    Recordings::bundled().unwrap().test(1).unwrap()
}

#[test]
fn the_same_data_as_int8_float32_and_csv_tunes_to_the_same_weights() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    let windows = windows();
    let count = windows.len();
    // The model's input parameters, from the crate's own reader.
    let file = flatmin_model::model::Model::open(&folder.path("m.tflite")).unwrap().pack(0).unwrap();
    let affine = file.pack().input().affine;
    let quantized: Vec<u8> =
        windows.iter().flat_map(|w| &w.samples).map(|&x| affine.quantize(x).cast_unsigned()).collect();
    let values = floats(windows.iter().flat_map(|w| w.samples.iter().copied()));
    folder.write("int8.npy", npy("|i1", &format!("({count}, 100, 6)"), &quantized));
    folder.write("float32.npy", npy("<f4", &format!("({count}, 100, 1, 6)"), &values));
    let labels: Vec<u8> = windows.iter().map(|w| w.label as u8).collect();
    folder.write("y.npy", npy("|u1", &format!("({count},)"), &labels));
    let rows = windows.iter().map(|w| {
        let cells = w.samples.iter().map(|x| format!(",{x}")).collect::<String>();
        format!("{}{cells}\n", w.label)
    });
    folder.write("windows.csv", rows.collect::<String>());

    let tune = |data: &str| folder.json(&format!("tune m.tflite --data {data} --epochs 4 --json"));
    let object = tune("int8.npy y.npy");
    check_fields(&object, &["sgd", "sam", "asam", "closed-form"]);
    assert_eq!(tune("float32.npy y.npy"), object);
    assert_eq!(tune("windows.csv"), object);
    let one = folder.json("tune m.tflite --data windows.csv --epochs 4 --layers 1 --method sgd --json");
    assert_ne!(one["runs"][0]["tail_parameters"], object["runs"][0]["tail_parameters"]);
}

#[test]
fn networks_with_one_dense_layer_tune_without_being_told() {
    let folder = Folder::new();
    folder.write("m.tflite", small_model(0));
    folder.write("x.npy", npy("|i1", "(8, 4, 4, 2)", &(0..=255).collect::<Vec<u8>>()));
    folder.write("y.npy", npy("|i1", "(8,)", &[0, 1, 0, 1, 1, 0, 1, 0]));
    let object = folder.json("tune m.tflite --data x.npy y.npy --json");
    check_fields(&object, &["sgd", "sam", "asam", "closed-form"]);
    // Two logits of 24 values and a bias each.
    assert_eq!(object["runs"][0]["tail_parameters"], 50);
}

#[test]
fn pack_and_inspect_agree() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    let inspected = folder.json("inspect m.tflite --json");
    for layers in [1, 2] {
        let packed = folder.json(&format!("pack m.tflite --layers {layers} -o m.pack --json"));
        let cut = &inspected["cuts"][layers - 1];
        assert_eq!(cut["layers"], layers);
        assert_eq!(packed["bytes"], cut["flash_bytes"]);
        assert_eq!(packed["tail_parameters"], cut["tail_parameters"]);
        assert_eq!(packed["feature_length"], cut["feature_length"]);
        // SGD: forward, back to the first layer, gradient. SAM: twice more through what follows the first layer. ASAM: once
        // more through all, and as often again through what follows the first.
        let macs = ["sgd_macs", "sam_macs", "asam_macs"].map(|method| cut[method].as_u64().unwrap());
        let after_first = if layers == 1 { 0 } else { 64 * 7 };
        let weights = cut["tail_parameters"].as_u64().unwrap() - [7, 7 + 64][layers - 1];
        let [sgd, all] = [2 * weights + after_first, weights + 2 * after_first];
        assert_eq!(macs, [sgd, sgd + 2 * after_first, sgd + 2 * after_first + all]);

        let bytes = std::fs::read(folder.path("m.pack")).unwrap();
        // On a pack's 16-byte boundary.
        let mut words = vec![0u128; bytes.len().div_ceil(16)];
        let place: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        place[..bytes.len()].copy_from_slice(&bytes);
        let pack = flatmin::Pack::new(&place[..bytes.len()]).unwrap();
        assert_eq!(packed["pack_crc32"], pack.crc32());
        let sizes = pack.sizes();
        assert_eq!((sizes.input_length, sizes.output_length, sizes.tail_layers), (600, 7, layers));
        let recipe = flatmin::Recipe { ..flatmin::Recipe::DEFAULT };
        assert_eq!(cut["train_ram_bytes"], sizes.train_bytes(&recipe));
        assert_eq!(cut["integer_ram_bytes"], sizes.compact_bytes(&recipe));

        let rust = std::fs::read_to_string(folder.path("m.rs")).unwrap();
        for expected in [
            "include_pack!(\"m.pack\")".to_owned(),
            format!("tail_weights: {},", sizes.tail_weights),
            format!("feature_length: {},", sizes.feature_length),
            format!("pub const CRC32: u32 = {:#010x};", pack.crc32()),
        ] {
            assert!(rust.contains(&expected), "{expected} in {rust}");
        }
    }
    assert_eq!(folder.files(), ["m.pack", "m.rs", "m.tflite"]);
    // The bundled network's seven layers with 63 samples, as the README has them, and 65 samples more of 600 values and 6 bytes.
    let integers = inspected["cuts"][6]["integer_ram_bytes"].as_u64().unwrap();
    assert!(integers.abs_diff(89_824 + 65 * 606) < 64, "{integers}");
    // Without being told: as inspect's deepest cut up to 2.
    folder.run("pack m.tflite -o n.pack").success();
    assert_eq!(std::fs::read(folder.path("n.pack")).unwrap(), std::fs::read(folder.path("m.pack")).unwrap());
    folder.run("inspect m.tflite").success().stdout(contains("FULLY_CONNECTED").and(contains("RAM")));
}

#[test]
fn run_answers_the_golden_bytes() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    let recordings = Recordings::bundled().unwrap();
    let windows: Vec<_> = recordings.windows_in_file_order(50).take(1_000).collect();
    folder.write("x.npy", npy("<f4", "(1000, 100, 1, 6)", &floats(windows.into_iter().flatten())));
    let object = folder.json("run m.tflite --input x.npy --output y.npy --json");
    assert_eq!((&object["samples"], &object["shapes"]), (&1000.into(), &serde_json::json!([[1000, 7]])));
    let golden = format!("{}/../sim/tests/golden/wearer01_real.bin", env!("CARGO_MANIFEST_DIR"));
    let written = std::fs::read(folder.path("y.npy")).unwrap();
    assert_eq!(written[written.len() - 7_000..], std::fs::read(golden).unwrap());
    assert!(String::from_utf8_lossy(&written[..128]).contains("'descr': '|i1'"));
    assert_eq!(folder.files(), ["m.tflite", "x.npy", "y.npy"]);
}

#[test]
fn quiet_and_verbose_change_what_stands_beside_the_answer() {
    let folder = Folder::new();
    let tune = "tune --wearer 1 --method closed-form --report r.html";
    let usual = folder.run(tune).success();
    let quiet = folder.run(&format!("{tune} -q")).success().stderr(is_empty());
    assert_eq!(usual.get_output().stdout, quiet.get_output().stdout);
    usual.stderr(contains("report: r.html"));
    folder.run(&format!("{tune} -v")).success().stderr(contains("seed: 1").and(contains("label noise: 0 %")));
    folder.run(&format!("{tune} -q -v")).code(2);
    // In front of the command, too.
    let front = folder.run(&format!("-q {tune}")).success().stderr(is_empty());
    assert_eq!(front.get_output().stdout, quiet.get_output().stdout);
    folder.run(&format!("--verbose {tune}")).success().stderr(contains("seed: 1"));
    folder.run(&format!("-q -v {tune}")).code(2);
    folder.run("-q --layers 1 tune").code(2);
}

/// One subject: how many of its samples moved, and an interval over them; no difference without one.
#[test]
fn the_verdict_ends_the_answer() {
    let folder = Folder::new();
    let tune = "tune --wearer 1 --layers 1 --epochs 3";
    let object = folder.json(&format!("{tune} --json"));
    let text = String::from_utf8(folder.run(tune).success().get_output().stdout.clone()).unwrap();
    assert!(!text.contains("vs SGD"), "{text}");
    let run = &object["runs"][3]["subjects"][0];
    let count = |name: &str| run["changes"][name].as_f64().unwrap();
    let [stayed, gained, lost, wrong] =
        ["stayed_right", "became_right", "became_wrong", "stayed_wrong"].map(count);
    let samples = stayed + gained + lost + wrong;
    let share = |name: &str| run[name].as_f64().unwrap();
    assert!((share("factory_accuracy") - (stayed + lost) / samples).abs() < 1e-9, "{run}");
    assert!((share("accuracy_int8") - (stayed + gained) / samples).abs() < 1e-9, "{run}");
    let last = text.trim_end().lines().last().unwrap();
    let moved = format!("of {samples} samples {gained} became right, {lost} wrong (");
    assert!(last.starts_with(" closed-form: ") && last.contains(&moved) && last.contains(" ± "), "{last}");

    let main = folder.run("--method closed-form --label-noise 0").success();
    let text = String::from_utf8(main.get_output().stdout.clone()).unwrap();
    let last = text.trim_end().lines().last().unwrap();
    assert!(
        last.contains("adapted: ") && last.contains(", better for ") && last.contains(" of 10, worse for "),
        "{last}"
    );
}

/// `flatmin inspect model.tflite | head -1` ends without a complaint.
#[test]
fn a_reader_that_stops_is_no_error() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("flatmin"))
        .args(["inspect", "m.tflite"])
        .current_dir(folder.path(""))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Held-out samples decide: what the table says, and what the figures of a run are then.
#[test]
fn a_tuned_tail_that_is_not_better_leaves_the_factory_in_force() {
    let folder = Folder::new();
    let plain = folder.json("tune --wearer 2 --epochs 3 --json");
    assert!(
        plain["runs"][0].get("accepted").is_none()
            && plain["runs"][0]["subjects"][0].get("verdict").is_none()
    );
    let factory = plain["factory_accuracy"].as_f64().unwrap();

    let judged = folder.json("tune --wearer 2 --held-out 0.2 --keep-best --json");
    check_fields(&judged, &["sgd", "sam", "asam", "closed-form"]);
    let ruined = "tune --wearer 2 --method sgd --held-out 0.2 --learning-rate 5 --epochs 2";
    let kept = folder.json(&format!("{ruined} --json"));
    for run in judged["runs"].as_array().unwrap().iter().chain(kept["runs"].as_array().unwrap()) {
        let verdict = &run["subjects"][0]["verdict"];
        let of = |name: &str| verdict[name].as_f64().unwrap();
        let better = verdict["accepted"].as_bool().unwrap();
        let evidence = verdict["evidence"].as_str().unwrap();
        assert!(if better { evidence != "worse" } else { evidence != "better" }, "{evidence}");
        assert!((0.0..=1.0).contains(&of("labels_agreed")));
        assert_eq!(verdict["samples"], 14, "two of nine windows of each of seven classes");
        assert_eq!(
            (&run["accepted"], &run["kept_factory"]),
            (&u8::from(better).into(), &u8::from(!better).into())
        );
        if !better {
            assert_eq!(run["accuracy_int8"].as_f64().unwrap(), factory);
        }
    }
    assert_eq!(kept["runs"][0]["kept_factory"], 1, "a learning rate of 5 helps nobody");
    let runs = judged["runs"].as_array().unwrap();
    assert!(
        runs.iter().any(|run| run["accepted"] == 1),
        "the head in closed form helps this wearer: {judged}"
    );
    folder
        .run(ruined)
        .success()
        .stdout(contains("kept factory").and(contains("the factory's tail was kept")));
    // What is exported is judged in the same way.
    let refused = folder.run(&format!("{} -o ruined.tflite", ruined.replace("tune", "export"))).code(1);
    refused.stderr(contains("nothing is written: of the 14 samples held out the tuned tail has "));
    assert!(!folder.path("ruined.tflite").exists());
    folder.run("export --wearer 2 --method closed-form --held-out 0.2 -o tuned.tflite").success();
    folder.write("judged.toml", "version = 1\n[recipe]\nheld_out = 0.2\n");
    let refused = folder.run("add-class --leave-out 2 --recipe judged.toml").code(1);
    refused.stderr(contains("--held-out and --keep-best are for"));
    folder.run("tune --held-out 0.6").failure().stderr(contains("must be from 0 to 0.5"));
}

#[test]
fn a_new_board_is_a_crate_in_a_folder_of_its_name() {
    let folder = Folder::new();
    let arguments =
        "new-board mine --chip nRF52840_xxAA --flash 0x0:1M --ram 0x20000000:256K --folder . --json";
    let object = folder.json(arguments);
    assert_eq!(
        (&object["target"], &object["replay_capacity"]),
        (&"thumbv7em-none-eabihf".into(), &128.into())
    );
    assert_eq!(folder.files(), ["mine"]);
    for file in ["Cargo.toml", "build.rs", "memory.x", ".cargo/config.toml", "Embed.toml", "src/main.rs"] {
        assert!(folder.path("mine").join(file).is_file(), "{file}");
    }
    folder.run(arguments).code(1).stdout(is_empty()).stderr(contains("mine is there already"));
    let no_size = arguments.replace(":256K", "");
    folder.run(&no_size).code(2).stdout(is_empty()).stderr(contains("0x20000000:128K"));
}

#[test]
fn plan_finds_what_tune_takes_within_the_budget() {
    let folder = Folder::new();
    let found = folder.json("plan --wearer 2 --ram 72K --layers 3 --epochs 2 --method sgd --json");
    let ram = |own: &Value| own["ram_bytes"].as_u64().unwrap();
    let all = |name: &str| found[name].as_array().unwrap().clone();
    assert!(all("measured").iter().all(|own| ram(own) <= 72 << 10), "{found}");
    // Every way of the last layer fits; of the one before not all of its 12,288 weights.
    let of = |operator: u64| all("contributions").iter().filter(|own| own["operator"] == operator).count();
    assert_eq!(of(9), 5);
    assert!((1..5).contains(&of(8)));
    let frontier = all("frontier");
    let loss = |own: &Value| own["loss"].as_f64().unwrap();
    assert!(frontier.is_sorted_by(|a, b| ram(a) < ram(b) && loss(a) > loss(b)), "{frontier:?}");
    let whole = all("measured").into_iter().filter(|own| own["trials"].as_u64() >= Some(3));
    let least = whole.map(|own| loss(&own)).fold(f64::MAX, f64::min);
    assert_eq!(loss(frontier.last().unwrap()), least);
    // The options are tune's, and the parameters those that tune counts.
    let best = frontier.last().unwrap();
    let train: Vec<_> = best["train"].as_array().unwrap().iter().map(|own| own.as_str().unwrap()).collect();
    let train = if train.is_empty() { String::new() } else { format!("--train {}", train.join(",")) };
    let tuned = folder
        .json(&format!("tune --wearer 2 --epochs 1 --method sgd --layers {} {train} --json", best["layers"]));
    assert_eq!(tuned["runs"][0]["tail_parameters"], best["parameters"]);
    folder.run("plan --wearer 2 --ram 40K --layers 1 --epochs 1 --trials 9 --report p.html").success();
    let page = std::fs::read_to_string(folder.path("p.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("the frontier, of"));
}

/// Windows of an exercise turned upside down are a class that the bundled model has never seen.
#[test]
fn labels_behind_the_models_own_are_added_tuned_and_exported() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    let mut rows = String::new();
    for window in windows() {
        let mut row = |label: usize, sign: f32| {
            let cells = window.samples.iter().map(|x| format!(",{}", sign * x)).collect::<String>();
            rows += &format!("{label}{cells}\n");
        };
        row(window.label, 1.0);
        if window.label == 3 {
            row(7, -1.0);
        }
    }
    folder.write("x.csv", &rows);
    let task = "m.tflite --data x.csv --spare-classes 2 --layers 1 --method sam --json";
    let run = folder.json(&format!("tune {task}"))["runs"][0]["subjects"][0].clone();
    let row = |confusion: &str, class: usize| {
        let of =
            |value: &Value| value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
        of(&run[confusion][class])
    };
    let tested: u64 = row("confusion_tuned", 7).iter().sum();
    assert!(tested > 5 && row("confusion_factory", 7)[7] == 0);
    assert!(row("confusion_tuned", 7)[7] * 10 > tested * 8, "{:?}", row("confusion_tuned", 7));
    assert_eq!(row("confusion_tuned", 8), [0; 9], "a spare class has no samples");
    // The command compares the exported network with the tuned device, on every test sample.
    let object = folder.json(&format!("export {task} -o tuned.tflite"));
    assert!(object["samples_checked"].as_u64().unwrap() > tested);
    let original = flatmin_model::tflite::read(&bundled()).unwrap();
    let exported = flatmin_model::tflite::read(&std::fs::read(folder.path("tuned.tflite")).unwrap()).unwrap();
    let shape = |graph: &flatmin_model::graph::Graph| graph.tensors[graph.outputs[0]].shape.clone();
    assert_eq!((shape(&original), shape(&exported)), (vec![1, 7], vec![1, 8]));
    // It is a model like any other: the added class is its own now.
    let again = folder.json("tune tuned.tflite --data x.csv --layers 1 --method sgd --epochs 1 --json");
    assert_eq!(again["runs"][0]["subjects"][0]["confusion_factory"][7][7], row("confusion_tuned", 7)[7]);
}

/// The command takes and writes arrays shaped as an ONNX file says, channels first.
#[test]
fn run_keeps_the_layout_of_an_onnx_file() {
    use flatmin_sim::inference::{self, Rows, Values};
    use flatmin_sim::samples::Samples;
    let folder = Folder::new();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/tests/onnx/golden/border_int8.onnx");
    let values: Vec<u8> = (0..4 * 90u32).map(|i| (i * 37 % 251) as u8).collect();
    folder.write("x.npy", npy("|i1", "(4, 3, 6, 5)", &values));
    let object = folder.json(&format!("run {path} --input x.npy --output y.npy --json"));
    assert_eq!(object["shapes"], serde_json::json!([[4, 2, 2, 2]]));
    let model = flatmin_model::model::Model::open(path.as_ref()).unwrap();
    let shape = model.network.inputs[0].sample_shape().to_vec();
    let inputs = Samples::inputs_from_npy(&folder.path("x.npy"), &shape).unwrap();
    let Values::I8(expected) = &inference::run(&model, &[inputs], Rows::Samples).unwrap()[0] else {
        panic!("int8 is expected")
    };
    let written = std::fs::read(folder.path("y.npy")).unwrap();
    assert!(written.ends_with(bytemuck::cast_slice(expected)) && expected.iter().any(|&q| q != expected[0]));
}

/// The advice is a recipe: written, shown and in the JSON it is the same, and every command takes it.
#[test]
fn a_plan_is_a_recipe() {
    let folder = Folder::new();
    let plan = "plan --wearer 2 --ram 160K --layers 2 --trials 24 --epochs 5";
    let shown = folder.run(plan).success().get_output().stdout.clone();
    folder.run(&format!("{plan} -o own.toml")).success().stdout(contains("the recipe: own.toml"));
    let written = std::fs::read_to_string(folder.path("own.toml")).unwrap();
    assert!(String::from_utf8(shown).unwrap().ends_with(&written), "{written}");
    let found = folder.json(&format!("{plan} --json"));
    assert_eq!(found, folder.json(&format!("{plan} --json")), "the same seed, the same answer");
    assert!(found["trials"].as_u64().unwrap() <= 24);
    let (chosen, recipe) = (&found["chosen"], &found["recipe"]);
    assert_eq!(recipe["budget"]["ram"], 160 << 10);
    let tuned = folder.json("tune --wearer 2 --recipe own.toml --json");
    assert_eq!(tuned["runs"].as_array().unwrap().len(), 1);
    let run = &tuned["runs"][0];
    assert_eq!(
        (&run["method"], &run["accuracy_int8"]),
        (&recipe["recipe"]["method"], &chosen["test_accuracy"])
    );
    assert_eq!(run["tail_parameters"], chosen["parameters"]);
    folder.run("export --wearer 2 --recipe own.toml -o t.tflite").success();
    // A plan of one's own plan: its budget, a search anew.
    folder.run("plan --wearer 2 --recipe own.toml --layers 2 --trials 24 --epochs 5 -o again.toml").success();
    assert_eq!(std::fs::read_to_string(folder.path("again.toml")).unwrap(), written);
    folder.run("plan --wearer 2").code(2).stderr(contains("--ram is needed"));
}

#[test]
fn tune_searches_a_recipe_first() {
    let folder = Folder::new();
    let object = folder.json("tune --auto=16 --wearer 3 --layers 1 --epochs 5 --json");
    let (runs, auto) = (object["runs"].as_array().unwrap(), &object["auto"]);
    assert_eq!((runs.len(), &runs[0]["method"]), (1, &auto["recipe"]["recipe"]["method"]));
    assert!(auto["trials"].as_u64().unwrap() <= 18, "{auto}");
    assert_eq!(runs[0]["accuracy_int8"], auto["chosen"]["test_accuracy"]);
    folder.run("tune --auto --keep-best").code(1).stderr(contains("leave out --held-out and --keep-best"));
}
