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
        matches!(self, Self::All | Self::Percent(_) | Self::Channels(_))
    }

    /// Of how many of a layer's output channels the weights are trained.
    pub fn channels(self, outputs: usize) -> usize {
        match self {
            Self::All => outputs,
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
        match (percent, channels) {
            (Some(100), _) => Ok(Self::All),
            (Some(percent @ 1..100), _) => Ok(Self::Percent(percent)),
            (_, Some(channels @ 1..)) => Ok(Self::Channels(channels)),
            _ => Err("must be all, biases, scales, nothing, a share of the output channels such as 25%, or \
                      channels:8"
                .into()),
        }
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
        let scale = constants.scales.get(o).or(constants.scales.first()).copied().unwrap_or(0.0);
        norms[o] += (f64::from(scale) * f64::from(q)).powi(2);
    }
    let mut channels: Vec<u16> = (0..=u16::MAX).take(outputs).collect();
    channels.sort_by(|&a, &b| norms[usize::from(b)].total_cmp(&norms[usize::from(a)]));
    channels.truncate(count);
    channels.sort_unstable();
    channels
}
