//! Tables as people and other programs write them.

use super::*;

#[test]
fn csv_with_and_without_header() {
    let folder = Folder::new();
    for text in [
        "1,0.5,-1.25\n0,3,4e-9\n",
        "label,x,y\n1,0.5,-1.25\n0,3,4e-9\n",
        // As pandas names columns, with Windows' line ends and an editor's byte order mark.
        "\u{feff}label,0,1\r\n1,0.5,-1.25\r\n\r\n0,3,4e-9",
        // numpy.savetxt
        "# label,x,y\n1.000000000000000000e+00,5.000000000000000000e-01,-1.250000000000000000e+00\n\
         0.000000000000000000e+00,3.000000000000000000e+00,4.000000000000000163e-09\n",
        " 1 , 0.5 , -1.25 \n\n\n\"0\",\"3\",4e-9\n",
    ] {
        let path = folder.file("x.csv", text);
        let samples = Samples::from_csv(&path, &[1, 2], &Labels::classes(2), &Table::default()).unwrap();
        assert_eq!(samples.inputs, Inputs::F32(vec![0.5, -1.25, 3.0, 4e-9]), "{text}");
        assert_eq!(samples.labels, [1, 0]);
        assert_eq!((samples.count, samples.sample_shape), (2, vec![1, 2]));
    }
}

#[test]
fn csv_refusals() {
    let folder = Folder::new();
    for (text, expected) in [
        ("", "no samples"),
        ("label,x,y\n", "no samples"),
        ("0,1\n", "line 1: 2 columns separated by `,`, expected 3: a label and the sample's values"),
        (
            "l,x,y\n0,1,2\n\n0,1,2,3\n",
            "line 4: 4 columns separated by `,`, expected 3: a label and the sample's values; name the label's column with \
             --label-column, and leave one out with --skip-column NAME or its number",
        ),
        (
            "time,l,x,y\n7,0,1,2\n",
            "line 2: 4 columns separated by `,`, expected 3: a label and the sample's values; leave a column out with \
             --skip-column time",
        ),
        (
            "0 1 2\n",
            "line 1: 1 column (columns separated by `,`), expected 3: a label and the sample's values; name another \
             separator with --delimiter",
        ),
        ("0,1,2\n7,1,2\n", "line 2: label `7`, expected a whole number from 0 to 6"),
        ("0,1,2\n-1,1,2\n", "line 2: label `-1`, expected a whole number from 0 to 6"),
        (
            "1.5,1,2\n",
            "line 1: label `1.5`, expected a whole number from 0 to 6; it is looked for in the first column: name another with \
             --label-column",
        ),
        (
            "nan,1,2\n",
            "line 1: label `nan`, expected a whole number from 0 to 6; it is looked for in the first column: name another with \
             --label-column",
        ),
        (
            "walk,1,2\nrun,1,2\n",
            "line 1: label `walk` is a name. Write the 7 classes in the order of the model's outputs, one per line, and give \
             the file with --classes; the names found here are: run, walk",
        ),
        ("label:walk|run,x,y\nrun,1,2\n", "2 names of classes, the model has 7 outputs"),
        ("0,1,2\n0,1,two\n", "line 2: value 1 is `two`, expected a number"),
        ("0,1,\n", "line 1: value 1 is ``, expected a number"),
        ("0,NaN,2\n", "line 1: value 0 is NaN, expected a finite number"),
        ("0,1,1e39\n", "line 1: value 1 is 1e39, expected a finite number"),
    ] {
        let path = folder.file("x.csv", text);
        let message = folder
            .refusal("x.csv", Samples::from_csv(&path, &[1, 2], &Labels::classes(7), &Table::default()));
        assert_eq!(message, expected, "{text}");
    }
    let path = folder.file("x.csv", b"0,1,2\n0,\xff,2\n");
    let message =
        folder.refusal("x.csv", Samples::from_csv(&path, &[1, 2], &Labels::classes(7), &Table::default()));
    assert!(message.contains("line 2"), "{message}");
    let missing = folder.0.path().join("none.csv");
    folder.refusal("none.csv", Samples::from_csv(&missing, &[1, 2], &Labels::classes(7), &Table::default()));
}

#[test]
fn tables_as_other_programs_write_them() {
    let folder = Folder::new();
    let read = |text: &str, table: Table| {
        let path = folder.file("x.csv", text);
        Samples::from_csv(&path, &[1, 2], &Labels::classes(2), &table).unwrap()
    };
    for text in [
        "1;0,5;-1,25\n0;3;4e-9\n",
        "label;x;y\n1;0.5;-1.25\n0;3;4e-9\n",
        "1\t0.5\t-1.25\n0\t3\t4e-9\n",
        "label\tx\ty\r\n1\t0,5\t-1,25\r\n0\t3,0\t4e-9\r\n",
        "# sampled at 50 Hz\n1,0.5,-1.25\n# a pause\n0,3,4e-9\n",
        "label:walk|run,x,y\nrun,0.5,-1.25\nwalk,3,4e-9\n",
        "1|0.5|-1.25\n0|3|4e-9\n",
    ] {
        let samples = read(text, Table::default());
        assert_eq!(samples.inputs, Inputs::F32(vec![0.5, -1.25, 3.0, 4e-9]), "{text}");
        assert_eq!(samples.labels, [1, 0], "{text}");
    }
    let columns = |skipped: &[&str], label: Option<&str>, group: Option<&str>| Table {
        delimiter: None,
        skipped_columns: skipped.iter().map(|&name| name.to_owned()).collect(),
        label_column: label.map(str::to_owned),
        group_column: group.map(str::to_owned),
    };
    let timed = "time;x;y;who;label\n0,1;0,5;-1,25;ann;1\n0,2;3;4e-9;bo;0\n";
    for table in [columns(&["time"], Some("label"), Some("who")), columns(&["1"], Some("5"), Some("4"))] {
        let samples = read(timed, table);
        assert_eq!(samples.inputs, Inputs::F32(vec![0.5, -1.25, 3.0, 4e-9]));
        assert_eq!((samples.labels, samples.groups), (vec![1, 0], vec!["ann".to_owned(), "bo".to_owned()]));
        let found = "columns separated by `;`, decimal commas, with headings, column `time` left out, groups by column `who`";
        assert_eq!(samples.note.unwrap(), found);
    }
    let path = folder.file("x.csv", timed);
    let message = folder.refusal(
        "x.csv",
        Samples::from_csv(&path, &[1, 2], &Labels::classes(2), &columns(&["Zeit"], None, None)),
    );
    assert_eq!(message, "no column `Zeit`; there are time, x, y, who, label");
    // Lines are counted with comments and empty lines.
    let path = folder.file("x.csv", "# one\n\n# three\n0,1,2\n# five\n0,1,two\n");
    let message =
        folder.refusal("x.csv", Samples::from_csv(&path, &[1, 2], &Labels::classes(2), &Table::default()));
    assert_eq!(message, "line 6: value 1 is `two`, expected a number");
}
