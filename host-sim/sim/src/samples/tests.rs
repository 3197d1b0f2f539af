//! Files as NumPy writes them, every refusal, and damage; tables in `csv`.

mod csv;

use std::fs;
use std::path::PathBuf;

use super::*;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// A refusal's message, which must begin with the file's name; the rest of it.
    fn refusal<T: std::fmt::Debug>(&self, name: &str, result: Result<T, SamplesError>) -> String {
        let message = result.unwrap_err().to_string();
        let file = format!("{}: ", self.0.path().join(name).display());
        let rest = message.strip_prefix(&file).unwrap_or_else(|| panic!("{message}"));
        rest.replace(&self.0.path().display().to_string(), "FOLDER")
    }
}

/// A file as `numpy.save` writes it.
fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend(data);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn npy_of_every_accepted_type() {
    let folder = Folder::new();
    let values = [0.5_f32, -1.25, 3.0, 4e-9];
    let doubles: Vec<_> = values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    let swapped: Vec<_> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    for (descr, data, expected) in [
        ("<f4", floats(&values), Inputs::F32(values.into())),
        (">f4", swapped, Inputs::F32(values.into())),
        ("<f8", doubles, Inputs::F32(values.into())),
        ("|i1", vec![0, 127, 128, 255], Inputs::I8(vec![0, 127, -128, -1])),
    ] {
        let path = folder.file("x.npy", npy(descr, false, "(2, 2)", &data));
        let samples = Samples::inputs_from_npy(&path, &[1, 2, 1]).unwrap();
        assert_eq!(samples.inputs, expected, "{descr}");
        assert_eq!((samples.count, samples.sample_shape), (2, vec![1, 2, 1]));
        assert!(samples.labels.is_empty());
    }
}

/// `numpy.save("f.npy", numpy.asfortranarray(numpy.arange(12, dtype="<f4").reshape(2, 3, 2)))`,
/// its 128 bytes of header, and the values in the order of the file.
#[test]
fn arrays_in_memory_are_read_as_files() {
    let folder = Folder::new();
    let x = npy("<f4", false, "(2, 2)", bytemuck::cast_slice(&[1.0_f32, -2.0, 0.5, 4.0]));
    let y = npy("<i8", false, "(2,)", bytemuck::cast_slice(&[1_i64, 0]));
    let paths = [folder.file("x.npy", &x), folder.file("y.npy", &y)];
    let labels = Labels::classes(2);
    let read = Samples::from_npy_bytes(("x", &x), ("y", &y), &[2], &labels).unwrap();
    assert_eq!(read, Samples::from_npy(&paths[0], &paths[1], &[2], &labels).unwrap());
    // What is wrong is said of the array's name.
    let refusal = |shape: &[usize], classes| {
        let read = Samples::from_npy_bytes(("x", &x), ("y", &y), shape, &Labels::classes(classes));
        read.unwrap_err().to_string()
    };
    assert_eq!(refusal(&[3], 2), "x: shape [2, 2], expected N samples of [3], axes of 1 optional");
    assert_eq!(refusal(&[2], 1), "y: sample 0: label `1`, expected a whole number from 0 to 0");
    let fewer = npy("<i8", false, "(1,)", bytemuck::cast_slice(&[1_i64]));
    let counted = Samples::from_npy_bytes(("x", &x), ("y", &fewer), &[2], &labels);
    assert_eq!(counted.unwrap_err().to_string(), "y: 1 labels for the 2 samples of x");
}

#[test]
fn npy_in_fortran_order() {
    let mut bytes =
        b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 2), }".to_vec();
    bytes.resize(127, b' ');
    bytes.push(b'\n');
    bytes.extend(floats(&[0., 6., 2., 8., 4., 10., 1., 7., 3., 9., 5., 11.]));
    let folder = Folder::new();
    let path = folder.file("f.npy", bytes);
    let samples = Samples::inputs_from_npy(&path, &[1, 3, 1, 2]).unwrap();
    assert_eq!(samples.inputs, Inputs::F32((0..12_u8).map(f32::from).collect()));
}

#[test]
fn labels_of_every_integer_type() {
    let folder = Folder::new();
    let x = folder.file("x.npy", npy("|i1", false, "(3, 1, 2)", &[0; 6]));
    for (descr, size) in
        [("i1", 1), ("i2", 2), ("i4", 4), ("i8", 8), ("u1", 1), ("u2", 2), ("u4", 4), ("u8", 8)]
    {
        for order in ['<', '>'] {
            let label = |label: u8| {
                let mut bytes = vec![0; size];
                bytes[if order == '<' { 0 } else { size - 1 }] = label;
                bytes
            };
            let data = [label(2), label(0), label(6)].concat();
            let y = folder.file("y.npy", npy(&format!("{order}{descr}"), false, "(3,)", &data));
            let samples = Samples::from_npy(&x, &y, &[1, 2], &Labels::classes(7)).unwrap();
            assert_eq!(samples.labels, [2, 0, 6], "{order}{descr}");
        }
    }
}

#[test]
fn npy_refusals() {
    let folder = Folder::new();
    let four = floats(&[1.0; 4]);
    let nan = floats(&[0.0, 0.0, 0.0, f32::NAN]);
    let large = [0.0_f64, -1e300].map(f64::to_le_bytes).concat();
    let v9 = b"\x93NUMPY\x09\x00\x76\x00".to_vec();
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "not an .npy file: the file is empty"),
        (b"label,0,1\n".to_vec(), "not an .npy file: it does not begin with NumPy's mark"),
        (v9, "not an .npy file: its header is truncated or of a later version"),
        (
            npy("<f4", false, "(2, 2)", &four)[..100].to_vec(),
            "not an .npy file: its header is truncated or of a later version",
        ),
        (
            npy("<f4", false, "(2, 2)", &four[..15]),
            "truncated or damaged: 15 bytes of data, its shape and type ask for 16",
        ),
        (
            npy("<f4", false, "(1, 2)", &four),
            "truncated or damaged: 16 bytes of data, its shape and type ask for 8",
        ),
        (npy("<f4", false, "(0, 2)", &[]), "no samples"),
        (
            npy("<f4", false, "(4,)", &four),
            "shape [4], expected N samples of [1, 2, 1], axes of 1 optional; one value a sample: are samples and labels in this \
             order?",
        ),
        (
            npy("<f4", false, "()", &four[..4]),
            "shape [], expected N samples of [1, 2, 1], axes of 1 optional",
        ),
        (
            npy("<f4", false, "(1, 2, 2)", &four),
            "shape [1, 2, 2], expected N samples of [1, 2, 1], axes of 1 optional",
        ),
        (
            npy("<c8", false, "(1, 2)", &[0; 16]),
            "element type `c8`, expected int8 or uint8 (quantized), wider integers or floats: save x.astype(np.float32)",
        ),
        (
            npy("|O", false, "(1, 2)", &[0; 8]),
            "element type `|O`, expected plain numbers or text, not Python's objects: save numbers.astype(np.float32), \
             names.astype(str)",
        ),
        (npy("<M8[ns]", false, "(1, 2)", &[0; 16]), "element type `a compound type`, expected plain numbers"),
        (npy("<f4", false, "(2, 2)", &nan), "sample 1: value 1 is NaN, expected a finite number"),
        (npy("<f8", false, "(1, 2)", &large), "sample 0: value 1 is -inf, expected a finite number"),
        (
            npy("<f4", false, "(2, 0, 9999999999, 9999999999)", &[]),
            "not an .npy file: its shape is (2, 0, 9999999999, 9999999999)",
        ),
    ];
    for (bytes, expected) in cases {
        let path = folder.file("x.npy", bytes);
        let message = folder.refusal("x.npy", Samples::inputs_from_npy(&path, &[1, 2, 1]));
        assert_eq!(&message, expected);
    }
    let missing = folder.0.path().join("none.npy");
    let message = folder.refusal("none.npy", Samples::inputs_from_npy(&missing, &[2]));
    assert!(message.contains("No such file"), "{message}");
}

#[test]
fn label_refusals() {
    let folder = Folder::new();
    let x = folder.file("x.npy", npy("|i1", false, "(3, 2)", &[0; 6]));
    for (bytes, expected) in [
        (npy("|i1", false, "(2,)", &[0, 1]), "2 labels for the 3 samples of FOLDER/x.npy"),
        (npy("|i1", false, "(3,)", &[0, 1, 7]), "sample 2: label `7`, expected a whole number from 0 to 6"),
        (
            npy("|i1", false, "(3,)", &[0, 255, 1]),
            "sample 1: label `-1`, expected a whole number from 0 to 6",
        ),
        (
            npy("<u8", false, "(3,)", &[255; 24]),
            "sample 0: label `18446744073709551615`, expected a whole number from 0 to 6",
        ),
        (
            npy("|i1", false, "(3, 2)", &[0; 6]),
            "shape [3, 2], expected [N], a class index a sample, or [N, 7]: save np.argmax(y, axis=1)",
        ),
        (
            npy("<f4", false, "(3,)", &floats(&[0.0, 0.5, 1.0])),
            "sample 1: label `0.5`, expected a whole number from 0 to 6",
        ),
        (
            npy("<c8", false, "(3,)", &[0; 24]),
            "element type `c8`, expected whole numbers: save y.astype(np.int64)",
        ),
        (
            npy("|i1", false, "(1, 7)", &[0, 1, 0, 1, 0, 0, 0]),
            "sample 0: its row of labels has 2 ones, expected one 1 and zeros (or np.argmax(y, axis=1))",
        ),
        (
            npy("|S4", false, "(3,)", b"walkrun\0sit\0"),
            "sample 0: label `walk` is a name. Write the 7 classes in the order of the model's outputs, one per line, and \
             give the file with --classes; the names found here are: run, sit, walk",
        ),
    ] {
        let y = folder.file("y.npy", bytes);
        let message = folder.refusal("y.npy", Samples::from_npy(&x, &y, &[2], &Labels::classes(7)));
        assert_eq!(message, expected);
    }
}

#[test]
fn damaged_npy_never_panics() {
    let folder = Folder::new();
    let whole = npy("<f4", true, "(2, 3, 2)", &floats(&[1.0; 12]));
    // PCG's multiplier; the high half alone is used.
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..5_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(3) {
            // The header's text, for the most part: digits, brackets and quotes into one another.
            let at = random(70);
            bytes[at] = b"0123456789(){}[]',:<>|fiuOL \n\xff"[random(30)];
        }
        bytes.truncate(whole.len() - random(2) * random(whole.len()));
        let path = folder.file("x.npy", bytes);
        let _ = Samples::inputs_from_npy(&path, &[3, 2]);
    }
    let deep = npy("<f4", false, &"(".repeat(50_000), &[]);
    let path = folder.file("x.npy", deep);
    assert!(Samples::inputs_from_npy(&path, &[2]).is_err());
}

#[test]
fn written_npy_reads_back() {
    let folder = Folder::new();
    let path = folder.file("out.npy", "");
    let values: Vec<i8> = (-6..6).collect();
    write_npy_i8(&path, &values, &[2, 3, 2]).unwrap();
    let samples = Samples::inputs_from_npy(&path, &[3, 2]).unwrap();
    assert_eq!(samples.inputs, Inputs::I8(values.clone()));
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes[..80]);
    assert!(text.contains("'descr': '|i1'") && text.contains("'shape': (2, 3, 2"), "{text}");

    let message = folder.refusal("out.npy", write_npy_i8(&path, &values, &[2, 3]));
    assert_eq!(message, "12 values can't be written with shape [2, 3]");
    let nowhere = folder.0.path().join("none/out.npy");
    folder.refusal("none/out.npy", write_npy_i8(&nowhere, &values, &[12]));
}

/// One label per sample in whatever form people keep them.
#[test]
fn labels_as_floats_bools_rows_columns_and_names() {
    let folder = Folder::new();
    let x = folder.file("x.npy", npy("|i1", false, "(3, 2)", &[0; 6]));
    let names: Vec<String> = ["walk", "run", "sit"].map(str::to_owned).into();
    let named = Labels::Classes { count: 3, names, questions: 0 };
    let utf32: Vec<u8> = ["sit", "run", "walk"]
        .iter()
        .flat_map(|name| format!("{name:\0<4}").chars().collect::<Vec<_>>())
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect();
    let doubles = [2.0_f64, 1.0, 0.0].map(f64::to_le_bytes).concat();
    let halves = [0x4000_u16, 0x3c00, 0].map(u16::to_le_bytes).concat();
    for (bytes, expected) in [
        (npy("<f4", false, "(3,)", &floats(&[2.0, 1.0, 0.0])), [2, 1, 0]),
        (npy("<f8", false, "(3, 1)", &doubles), [2, 1, 0]),
        (npy("<f2", false, "(3,)", &halves), [2, 1, 0]),
        (npy("|b1", false, "(3,)", &[1, 0, 1]), [1, 0, 1]),
        (npy("|i1", false, "(3, 1)", &[2, 1, 0]), [2, 1, 0]),
        (npy("<f4", false, "(3, 3)", &floats(&[0., 0., 1., 0., 1., 0., 1., 0., 0.])), [2, 1, 0]),
        (npy("<U4", false, "(3,)", &utf32), [2, 1, 0]),
        (npy("|S4", false, "(3,)", b"sit\0run\0walk"), [2, 1, 0]),
    ] {
        let y = folder.file("y.npy", bytes);
        assert_eq!(Samples::from_npy(&x, &y, &[2], &named).unwrap().labels, expected);
    }
    // Yes-or-no outputs: a row is a set, its first output the lowest bit.
    let y = folder.file("y.npy", npy("|u1", false, "(3, 2)", &[1, 0, 0, 0, 1, 1]));
    let questions = Labels::Classes { count: 4, names: Vec::new(), questions: 2 };
    assert_eq!(Samples::from_npy(&x, &y, &[2], &questions).unwrap().labels, [1, 0, 3]);
    // Numbers to give.
    let y = folder.file("y.npy", npy("<i2", false, "(3, 1)", &[1, 0, 254, 255, 0, 1]));
    let read = Samples::from_npy(&x, &y, &[2], &Labels::Numbers { width: 1 }).unwrap();
    assert_eq!((read.targets, read.labels), (vec![1.0, -2.0, 256.0], vec![]));
    let message = folder.refusal("y.npy", Samples::from_npy(&x, &y, &[2], &Labels::Numbers { width: 2 }));
    assert_eq!(message, "shape [3, 1], expected [N, 2], what the model is to give for each sample");
}

#[test]
fn wider_integers_and_half_floats_are_in_the_units_of_training() {
    let folder = Folder::new();
    let wide = |size: usize| -> Vec<u8> {
        [3_i64, -2, 300, 0].iter().flat_map(|value| value.to_le_bytes()[..size].to_vec()).collect()
    };
    for (descr, data, expected) in [
        ("<i2", wide(2), [3.0, -2.0, 300.0, 0.0]),
        ("<i4", wide(4), [3.0, -2.0, 300.0, 0.0]),
        ("<i8", wide(8), [3.0, -2.0, 300.0, 0.0]),
        (
            "<f2",
            [0x3800_u16, 0xbc00, 0x7bff, 1].map(u16::to_le_bytes).concat(),
            [0.5, -1.0, 65504.0, 5.960_464_5e-8],
        ),
    ] {
        let path = folder.file("x.npy", npy(descr, false, "(2, 2)", &data));
        assert_eq!(
            Samples::inputs_from_npy(&path, &[2]).unwrap().inputs,
            Inputs::F32(expected.into()),
            "{descr}"
        );
    }
}

#[test]
fn archives_by_the_names_of_their_arrays() {
    use std::io::Write as _;
    let folder = Folder::new();
    let archive = |members: &[(&str, Vec<u8>)], method| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in members {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let x = npy("<f4", false, "(2, 2)", &floats(&[1.0, 2.0, 3.0, 4.0]));
    let y = npy("<i4", false, "(2,)", &[1, 0, 0, 0, 0, 0, 0, 0]);
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        for names in [["x.npy", "y.npy"], ["X_train.npy", "labels.npy"]] {
            let bytes = archive(&[(names[0], x.clone()), (names[1], y.clone())], method);
            let path = folder.file("s.npz", bytes.clone());
            let read = Samples::from_npy(&path, &path, &[2], &Labels::classes(2)).unwrap();
            assert_eq!((read.inputs, read.labels), (Inputs::F32(vec![1.0, 2.0, 3.0, 4.0]), vec![1, 0]));
            // Damage anywhere is an error or the same samples, no panic.
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x55;
                let path = folder.file("damaged.npz", damaged);
                let _ = Samples::from_npy(&path, &path, &[2], &Labels::classes(2));
            }
        }
    }
    let path = folder.file("s.npz", archive(&[("a.npy", x), ("b.npy", y)], zip::CompressionMethod::Stored));
    let message = folder.refusal("s.npz", Samples::inputs_from_npy(&path, &[2]));
    assert!(message.starts_with("holds `a`, `b`; the samples are looked for as `x`, `data`"), "{message}");
}

/// Each shape that is taken holds the values of `[N, 4, 6]` in that order; what could be read in two ways is refused with the line of
/// NumPy that mends it.
#[test]
fn rows_that_were_made_flat_are_taken_and_others_in_another_order_are_not() {
    let folder = Folder::new();
    let values: Vec<f32> = (0..48_u8).map(f32::from).collect();
    let read = |found: &str, expected: &[usize]| {
        let path = folder.file("x.npy", npy("<f4", false, found, &floats(&values)));
        Samples::inputs_from_npy(&path, expected)
    };
    for (found, expected, told) in [
        ("(2, 4, 6)", &[4, 6][..], false),
        ("(2, 1, 4, 6)", &[4, 6], false),
        ("(2, 24)", &[4, 6], true),
        ("(2, 24)", &[4, 1, 6], true),
        ("(2, 4, 6)", &[24], true),
        ("(2, 4, 6)", &[2, 2, 6], true),
        ("(2, 4, 3, 2)", &[4, 6], true),
    ] {
        let samples = read(found, expected).unwrap();
        assert_eq!(samples.inputs, Inputs::F32(values.clone()), "{found}");
        assert_eq!((samples.count, samples.sample_shape), (2, expected.to_vec()));
        assert_eq!(samples.note.is_some(), told, "{found} for {expected:?}");
    }
    for (found, expected, mends) in [
        ("(2, 6, 4)", &[4, 6][..], "; its axes are in another order: save x.transpose(0, 2, 1)"),
        ("(4, 6, 2)", &[2, 6], "; its axes are in another order: save x.transpose(0, 2, 1)"),
        ("(4, 3, 4)", &[2, 6], "optional"),
        ("(2, 8, 3)", &[4, 6], "optional"),
        ("(2, 23)", &[4, 6], "optional"),
        ("(4, 12)", &[4, 12], "; one sample is saved as x[np.newaxis]"),
        ("(48,)", &[4, 6], "; one value a sample: are samples and labels in this order?"),
    ] {
        let path = if found == "(2, 23)" {
            folder.file("x.npy", npy("<f4", false, found, &floats(&values[..46])))
        } else {
            folder.file("x.npy", npy("<f4", false, found, &floats(&values)))
        };
        let refusal = folder.refusal("x.npy", Samples::inputs_from_npy(&path, expected));
        assert!(refusal.ends_with(mends), "{found} for {expected:?}: {refusal}");
    }
}

#[test]
fn labels_that_count_from_one_are_told_so() {
    let folder = Folder::new();
    let x = folder.file("x.npy", npy("|i1", false, "(3, 2)", &[0; 6]));
    let hint = |labels: &[u8]| {
        let y = folder.file("y.npy", npy("|u1", false, "(3,)", labels));
        let refused = folder.refusal("y.npy", Samples::from_npy(&x, &y, &[2], &Labels::classes(3)));
        refused.split_once(';').map(|(_, hint)| hint.trim().to_owned())
    };
    assert_eq!(hint(&[1, 2, 3]).as_deref(), Some("here they count from 1: subtract 1"));
    assert_eq!(hint(&[0, 2, 3]), None, "a class is missing: another fault");
    assert_eq!(hint(&[1, 2, 4]), None);
    let table = |rows: &str, table: &Table| {
        let path = folder.file("x.csv", rows);
        folder.refusal("x.csv", Samples::from_csv(&path, &[2], &Labels::classes(3), table))
    };
    let counted = table("1,0.5,0.5\n2,0.5,0.5\n3,0.5,0.5\n", &Table::default());
    assert!(counted.ends_with("here they count from 1: subtract 1"), "{counted}");
    let last = table("0.5,0.25,1\n0.5,0.25,0\n", &Table::default());
    assert!(last.ends_with("name another with --label-column"), "{last}");
    let named = Table { label_column: Some("1".into()), ..Table::default() };
    assert!(table("0.5,0.25,1\n0.5,0.25,0\n", &named).ends_with("from 0 to 2"));
}

/// All names of the file are told, not that of the first sample alone.
#[test]
fn names_without_classes_are_all_told() {
    let folder = Folder::new();
    let x = folder.file("x.npy", npy("|i1", false, "(3, 2)", &[0; 6]));
    let text = |name: &str| name.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>();
    let y = folder.file("y.npy", npy("<U3", false, "(3,)", &["run", "sit", "run"].map(text).concat()));
    let refused = folder.refusal("y.npy", Samples::from_npy(&x, &y, &[2], &Labels::classes(3)));
    assert!(
        refused.contains("3 classes in the order") && refused.ends_with("found here are: run, sit"),
        "{refused}"
    );
}
