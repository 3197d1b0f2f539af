//! What of a layer is trained, and which channels where it is a share of them.

use super::network::Step;
use flatmin::internals::pack::format::operator as code;
use std::fmt;
use std::str::FromStr;

/// What of a layer is trained.
///
/// ```
/// use flatmin_model::packer::Trains;
/// assert_eq!("25%".parse(), Ok(Trains::Percent(25)));
/// assert_eq!("channels:8".parse(), Ok(Trains::Channels(8)));
/// assert_eq!("inputs:25%".parse(), Ok(Trains::Inputs(25)));
/// assert_eq!(Trains::Scales.to_string(), "scales");
/// assert!("0%".parse::<Trains>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Trains {
    /// Weights and biases.
    #[default]
    All,
    /// The weights of this many percent of the output channels, 1 to 99, and all biases; rounded up. The channels are
    /// those whose factory weights are largest in norm (MCUNetV3's sparse update, arXiv 2206.15472, section 3.2,
    /// likewise leaves a share of a tensor frozen).
    Percent(u8),
    /// The same of a number of channels, 1 or more; all of them if the layer has no more.
    Channels(u16),
    /// The weights of this many percent of the input channels, 1 to 100, those of all outputs, and all biases; rounded up. Of a
    /// depthwise convolution an input channel is an output channel, of a fully connected layer every input is one. Integer
    /// tails alone train it. The channels are those whose weights' gradients have most energy on calibration samples
    /// ([`super::Network::energies`]), or where there are none the largest norm.
    Inputs(u8),
    /// A gain for each of the weights' scales, and the biases: the int8 weights stay.
    Scales,
    /// Biases alone: the weights stay int8.
    Biases,
    /// Nothing.
    Nothing,
}

impl Trains {
    /// Whether weights are trained.
    pub fn trains_weights(self) -> bool {
        matches!(self, Self::All | Self::Percent(_) | Self::Channels(_) | Self::Inputs(_))
    }

    /// Of how many of a layer's output channels the weights are trained.
    pub fn channels(self, outputs: usize) -> usize {
        match self {
            Self::All | Self::Inputs(_) => outputs,
            Self::Percent(percent) => (outputs * usize::from(percent)).div_ceil(100).min(outputs),
            Self::Channels(channels) => usize::from(channels).min(outputs),
            Self::Scales | Self::Biases | Self::Nothing => 0,
        }
    }
}

impl fmt::Display for Trains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Channels(channels) => write!(f, "channels:{channels}"),
            Self::Inputs(percent) => write!(f, "inputs:{percent}%"),
            Self::Scales => f.write_str("scales"),
            Self::Biases => f.write_str("biases"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

impl FromStr for Trains {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = [Self::All, Self::Scales, Self::Biases, Self::Nothing];
        if let Some(known) = named.into_iter().find(|known| known.to_string() == text) {
            return Ok(known);
        }
        let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
        let channels = text.strip_prefix("channels:").and_then(|number| number.parse().ok());
        let inputs = text.strip_prefix("inputs:").and_then(|share| share.strip_suffix('%')?.parse().ok());
        match (percent, channels, inputs) {
            (Some(100), ..) => Ok(Self::All),
            (Some(percent @ 1..100), ..) => Ok(Self::Percent(percent)),
            (_, Some(channels @ 1..), _) => Ok(Self::Channels(channels)),
            (.., Some(percent @ 1..=100)) => Ok(Self::Inputs(percent)),
            _ => Err("must be all, biases, scales, nothing, a share of the output channels such as 25%, \
                      channels:8, or a share of the input channels such as inputs:25%"
                .into()),
        }
    }
}

/// What of several layers in a row is trained, as people write it: `4*inputs:25%`, or without a number for one layer.
///
/// ```
/// use flatmin_model::packer::{Repeated, Trains};
/// let parsed: Vec<Repeated> = ["2*inputs:25%", "biases"].map(|text| text.parse().unwrap()).into();
/// assert_eq!(Repeated::all(&parsed), [Trains::Inputs(25), Trains::Inputs(25), Trains::Biases]);
/// assert!("0*all".parse::<Repeated>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeated {
    count: u8,
    trains: Trains,
}

impl Repeated {
    /// One for each layer.
    pub fn all(parts: &[Self]) -> Vec<Trains> {
        parts.iter().flat_map(|part| std::iter::repeat_n(part.trains, part.count.into())).collect()
    }
}

impl FromStr for Repeated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((count, what)) = text.split_once('*') else {
            return Ok(Self { count: 1, trains: text.parse()? });
        };
        let count = count.parse().ok().filter(|&count| count > 0);
        let count = count.ok_or("in front of * there must be a number of layers, 1 to 255")?;
        Ok(Self { count, trains: what.parse()? })
    }
}

/// The `count` output channels with the largest weights, by the Euclidean norm of their real values; the first among
/// equals. Rising.
pub(super) fn largest_channels(step: &Step, count: usize) -> Vec<u16> {
    let constants = &step.constants;
    let outputs = constants.biases.len();
    let taps = constants.weights.len() / outputs.max(1);
    let mut norms = vec![0.0; outputs];
    for (place, &q) in constants.weights.iter().enumerate() {
        let o = if step.kind == code::DEPTHWISE_CONV_2D { place % outputs } else { place / taps };
        norms[o] += square(step, o, q);
    }
    largest(&norms, count)
}

/// The input channels that `percent` of them are, by `energies` or, where nothing is known of them, by the norm of their weights;
/// the first among equals, in ascending order; output channels of a depthwise convolution.
pub(super) fn chosen_inputs(step: &Step, percent: u8, energies: Option<&Vec<f64>>) -> Vec<u16> {
    let outputs = step.constants.biases.len();
    let channels = input_channels(step);
    let count = (channels * usize::from(percent)).div_ceil(100).clamp(1, channels);
    if let Some(energies) = energies.filter(|energies| energies.len() == channels) {
        return largest(energies, count);
    }
    if step.kind == code::DEPTHWISE_CONV_2D {
        return largest_channels(step, count);
    }
    let mut norms = vec![0.0; channels];
    let taps = step.constants.weights.len() / outputs.max(1);
    for (place, &q) in step.constants.weights.iter().enumerate() {
        norms[place % taps % channels] += square(step, place / taps, q);
    }
    largest(&norms, count)
}

/// Channels that a share of the inputs is chosen among.
pub(super) fn input_channels(step: &Step) -> usize {
    let outputs = step.constants.biases.len().max(1);
    let area = match step.kind {
        code::FULLY_CONNECTED => 1,
        _ => (step.window.filter[0] * step.window.filter[1]).max(1),
    };
    match step.kind {
        code::DEPTHWISE_CONV_2D => outputs,
        _ => (step.constants.weights.len() / outputs / area).max(1),
    }
}

/// Square of a weight's real value.
fn square(step: &Step, o: usize, q: i8) -> f64 {
    let scales = &step.constants.scales;
    let scale = scales.get(o).or(scales.first()).copied().unwrap_or(0.0);
    (f64::from(scale) * f64::from(q)).powi(2)
}

fn largest(sizes: &[f64], count: usize) -> Vec<u16> {
    let mut channels: Vec<u16> = (0..=u16::MAX).take(sizes.len()).collect();
    channels.sort_by(|&a, &b| sizes[usize::from(b)].total_cmp(&sizes[usize::from(a)]));
    channels.truncate(count);
    channels.sort_unstable();
    channels
}
