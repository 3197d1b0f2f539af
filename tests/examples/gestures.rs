//! Made-up gestures in place of a sensor: each shakes another axis, in the int8 units of the network's input.

/// Values of a frame, and frames of a window.
const WINDOW: [usize; 2] = [6, 100];

/// `count` windows, each with its label, 0 to 2 in turn.
pub fn recorded(count: usize) -> impl Iterator<Item = (Vec<i8>, usize)> {
    let mut noise = 1u32;
    (0..count).map(move |index| {
        let label = index % 3;
        let value = |at: usize, noise: &mut u32| {
            *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (axis, frame) = (at % WINDOW[0], at / WINDOW[0]);
            let shaken = if axis == label { 60.0 * ((frame + index) as f32 * 0.6).sin() } else { 0.0 };
            shaken as i8 + (*noise >> 28) as i8 - 8
        };
        ((0..WINDOW[0] * WINDOW[1]).map(|at| value(at, &mut noise)).collect(), label)
    })
}
