//! Files that users give, with random damage: refused with an error, or read as what their type promises. The same damage
//! each time; `host-sim/fuzz` looks for more.

use flatmin_model::recipe_file::RecipeFile;
use flatmin_sim::samples::{Inputs, Labels, Samples, Table, groups, write_npy_f32, write_npy_i8};
use flatmin_sim::sensors::keywords::pcm;
use flatmin_sim::wearers::SplitMix64;
use std::path::Path;

const SHAPE: [usize; 2] = [2, 3];
const CLASSES: usize = 3;

/// Bytes and words that readers stumble over, at random places; now and then the end is cut off, or a part is doubled.
struct Damage(SplitMix64);

impl Damage {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() >> 33) as usize % limit.max(1)
    }

    fn apply(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(12) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, b"0-9,;\n\"'.e\0\xff"[self.below(12)]),
                2 => {
                    let end = (at + 1 + self.below(20)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
                3 => {
                    let length = (bytes.len() - at).min(4);
                    bytes[at..at + length].fill(0xff);
                }
                4 => bytes.splice(at..at, *b"99999999999").for_each(drop),
                _ => {
                    let random = self.below(256) as u8;
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'9', b'-', random][self.below(8)];
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}

/// What the type says of samples that were read.
fn are_sound(samples: &Samples) {
    let size: usize = samples.sample_shape.iter().product();
    assert!(samples.count >= 1 && samples.sample_shape == SHAPE);
    let length = match &samples.inputs {
        Inputs::F32(values) => {
            assert!(values.iter().all(|value| value.is_finite()));
            values.len()
        }
        Inputs::I8(values) => values.len(),
        Inputs::U8(values) => values.len(),
    };
    assert_eq!(length, samples.count * size);
    assert_eq!(samples.labels.len(), samples.count);
    assert!(samples.labels.iter().all(|&label| label < CLASSES));
}

fn read_or_refused(seed: u64, cases: usize, good: &[u8], mut read: impl FnMut(&[u8]) -> bool) {
    assert!(read(good), "the file without damage is refused");
    let mut damage = Damage(SplitMix64::new(seed));
    let taken = (0..cases).filter(|_| read(&damage.apply(good))).count();
    // Damage that is always found, or never, would show nothing.
    assert!(taken > 0 && taken < cases, "{taken} of {cases} were read");
}

#[test]
fn damaged_arrays_are_refused_or_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let values: Vec<f32> = (0u8..24).map(f32::from).collect();
    write_npy_f32(&x, &values, &[4, 2, 3]).unwrap();
    write_npy_i8(&y, &[0, 1, 2, 1], &[4]).unwrap();
    let (x, y) = (std::fs::read(x).unwrap(), std::fs::read(y).unwrap());
    let read = |x: &[u8], y: &[u8]| {
        let samples = Samples::from_npy_bytes(("x", x), ("y", y), &SHAPE, &Labels::classes(CLASSES));
        samples.as_ref().map(are_sound).is_ok()
    };
    read_or_refused(1, 4_000, &x, |x| read(x, &y));
    read_or_refused(2, 4_000, &y, |y| read(&x, y));
    let names = folder.path().join("groups.npy");
    read_or_refused(3, 500, &y, |bytes| {
        std::fs::write(&names, bytes).unwrap();
        groups(&names).is_ok()
    });
}

#[test]
fn damaged_tables_are_refused_or_sound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.csv");
    let mut write_and_read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let read = Samples::from_csv(&path, &SHAPE, &Labels::classes(CLASSES), &Table::default());
        read.as_ref().map(are_sound).is_ok()
    };
    let rows = "label,a,b,c,d,e,f\n0,1,2,3,4,5,6\n1,-1,2.5,3e2,4,5,6\n2,0,0,0,0,0,1\n";
    read_or_refused(4, 2_000, rows.as_bytes(), &mut write_and_read);
    read_or_refused(5, 2_000, rows.replace(',', ";").replace('.', ",").as_bytes(), &mut write_and_read);
}

#[test]
fn a_damaged_recipe_is_refused_or_written_as_it_was_read() {
    let good = "version = 1\nmodel = \"a.tflite\"\nlayers = 2\n\n[recipe]\nmethod = \"asam\"\nlearning_rate = 0.01\n\
                epochs = 12\nrho = 0.2\nseed = 7\n";
    read_or_refused(6, 4_000, good.as_bytes(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(file) = RecipeFile::parse(&text) else { return false };
        let written = file.to_text().unwrap();
        let again = RecipeFile::parse(&written).unwrap_or_else(|why| panic!("{why:?} in\n{written}"));
        assert_eq!(again, file);
        true
    });
    assert!(RecipeFile::read(Path::new("no/such/recipe.toml")).is_err());
}

#[test]
fn a_damaged_recording_is_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    (0..40i16).for_each(|value| wav.write_sample(value * 700).unwrap());
    wav.finalize().unwrap();
    let good = std::fs::read(&path).unwrap();
    read_or_refused(7, 2_000, &good, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        // Not more samples than there are bytes for.
        pcm(&path).is_ok_and(|samples| samples.len() <= bytes.len() / 2)
    });
}
