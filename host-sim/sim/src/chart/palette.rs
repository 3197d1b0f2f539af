//! Colours and markers: one pair a method, told apart without colour vision, in light and dark.
//!
//! The plots are drawn in the light colours; [`adopt`] then turns each into a CSS variable with that colour
//! as its fallback, so that the figures follow the page, and still have colours when cut out of it.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// A colour with its name in the style sheet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ink {
    /// Name of the CSS variable, without its dashes.
    name: &'static str,
    /// On white, and in print.
    light: (u8, u8, u8),
    /// On a dark screen.
    dark: (u8, u8, u8),
}

/// Text and axes.
pub const TEXT: Ink = ink("text", 0x1B_1F_24, 0xE6_E8_EB);
/// Secondary text.
pub const MUTED: Ink = ink("muted", 0x5B_64_70, 0x9D_A7_B3);
/// Grid lines and borders.
pub const GRID: Ink = ink("grid", 0xDF_E3_E8, 0x30_36_3D);
/// The page.
pub const PAPER: Ink = ink("paper", 0xFF_FF_FE, 0x14_17_1B);
/// The factory model.
pub const FACTORY: Ink = ink("factory", 0x6B_74_80, 0xA8_B1_BD);

/// Okabe and Ito's colours that are dark enough for lines, lightened for the dark page.
const METHODS: [Ink; 6] = [
    ink("method-1", 0x00_72_B2, 0x56_B4_E9),
    ink("method-2", 0xD5_5E_00, 0xF4_8B_3C),
    ink("method-3", 0x00_9E_73, 0x2F_D0_A3),
    ink("method-4", 0xB8_4F_8E, 0xE0_90_BF),
    ink("method-5", 0x8A_6D_00, 0xE0_C0_40),
    ink("method-6", 0x44_4B_A8, 0x9A_A2_F5),
];

/// Series of a line chart, in order: the factory model's grey, which is also that of a baseline, then the methods', and two
/// more.
const SERIES: [Ink; 8] = [
    FACTORY,
    METHODS[0],
    METHODS[1],
    ink("series-3", 0xE6_9F_00, 0xE6_9F_00),
    METHODS[2],
    METHODS[3],
    PURPOSES[0],
    ink("series-7", 0x8C_56_4B, 0xC4_9C_94),
];

/// Tol's muted colours, for the purposes of RAM.
const PURPOSES: [Ink; 10] = [
    ink("purpose-1", 0x33_22_88, 0x77_66_DD),
    ink("purpose-2", 0x88_CC_EE, 0x88_CC_EE),
    ink("purpose-3", 0xDD_CC_77, 0xDD_CC_77),
    ink("purpose-4", 0xCC_66_77, 0xCC_66_77),
    ink("purpose-5", 0x11_77_33, 0x3A_A8_60),
    ink("purpose-6", 0xAA_44_99, 0xC2_66_B4),
    ink("purpose-7", 0x99_99_33, 0xB5_B5_4A),
    ink("purpose-8", 0x88_22_55, 0xB8_4A_80),
    ink("purpose-9", 0xBB_BB_BA, 0x77_7D_85),
    ink("purpose-10", 0x44_AA_99, 0x5C_C8_B6),
];

/// Splits two `0xRRGGBB` numbers.
const fn ink(name: &'static str, light: u32, dark: u32) -> Ink {
    let ([_, r, g, b], [_, dr, dg, db]) = (light.to_be_bytes(), dark.to_be_bytes());
    Ink { name, light: (r, g, b), dark: (dr, dg, db) }
}

impl Ink {
    /// The light colour, to draw with.
    pub const fn rgb(self) -> RGBColor {
        RGBColor(self.light.0, self.light.1, self.light.2)
    }

    /// The colour as a style sheet names it.
    pub fn css(self) -> String {
        format!("var(--{})", self.name)
    }
}

/// The colour of the purpose at this place among those of a report.
pub fn purpose(index: usize) -> Ink {
    PURPOSES[index % PURPOSES.len()]
}

/// The light colour of the series at this place in a line chart.
pub fn series(index: usize) -> RGBColor {
    SERIES[index % SERIES.len()].rgb()
}

/// A marker's outline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A disc.
    Circle,
    /// A square on its side.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its corner.
    Diamond,
}

impl Shape {
    /// Corners around a centre, of about the area of a disc of this radius; none of a disc.
    pub fn corners(self, (x, y): (i32, i32), radius: i32) -> Vec<(i32, i32)> {
        let scaled = |factor: f64| (f64::from(radius) * factor).round() as i32;
        let (side, diagonal) = (scaled(0.89), scaled(1.25));
        match self {
            Shape::Circle => Vec::new(),
            Shape::Square => {
                vec![(x - side, y - side), (x + side, y - side), (x + side, y + side), (x - side, y + side)]
            }
            Shape::Triangle => {
                vec![(x, y - diagonal), (x + scaled(1.2), y + side), (x - scaled(1.2), y + side)]
            }
            Shape::Diamond => {
                vec![(x, y - diagonal), (x + diagonal, y), (x, y + diagonal), (x - diagonal, y)]
            }
        }
    }

    /// The marker as a small SVG for a legend or a table cell.
    pub fn svg(self, ink: Ink) -> String {
        let mut svg = String::from("<svg class=\"mark\" viewBox=\"0 0 32 32\" aria-hidden=\"true\">");
        let fill = ink.css();
        if self == Shape::Circle {
            svg.push_str(&format!("<circle cx=\"16\" cy=\"16\" r=\"11\" fill=\"{fill}\"/>"));
        } else {
            let corners = self.corners((16, 16), 11);
            let points: Vec<String> = corners.iter().map(|(x, y)| format!("{x},{y}")).collect();
            let points = points.join(" ");
            svg.push_str(&format!("<polygon points=\"{points}\" fill=\"{fill}\"/>"));
        }
        svg.push_str("</svg>");
        svg
    }
}

/// How a method is drawn, everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Its colour.
    pub ink: Ink,
    /// Its marker.
    pub shape: Shape,
}

/// The look of a method: the known ones always have the same, others by their place in the report.
pub fn look(method: &str, place: usize) -> Look {
    let index = match method {
        "sgd" => 0,
        "sam" => 1,
        "asam" => 2,
        _ => 3 + place % (METHODS.len() - 3),
    };
    let shape = match index {
        0 => Shape::Circle,
        1 => Shape::Triangle,
        2 => Shape::Square,
        _ => Shape::Diamond,
    };
    Look { ink: METHODS[index], shape }
}

/// Every colour.
fn all() -> impl Iterator<Item = Ink> {
    let page = [TEXT, MUTED, GRID, PAPER, FACTORY];
    page.into_iter().chain(METHODS).chain(PURPOSES)
}

/// The variables of the style sheet: light, and dark on a screen that asks for it.
pub fn variables() -> String {
    let declare = |pick: fn(&Ink) -> (u8, u8, u8)| {
        all().fold(String::new(), |mut text, ink| {
            let (r, g, b) = pick(&ink);
            // Writing to a String cannot fail.
            let _ = write!(text, "--{}:#{r:02x}{g:02x}{b:02x};", ink.name);
            text
        })
    };
    let (light, dark) = (declare(|ink| ink.light), declare(|ink| ink.dark));
    format!(
        ":root{{color-scheme:light;{light}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n"
    )
}

/// Replaces the colours that an SVG was drawn in by the style sheet's variables.
pub fn adopt(svg: &str) -> String {
    all().fold(svg.to_owned(), |svg, ink| {
        let (r, g, b) = ink.light;
        let hex = format!("#{r:02X}{g:02X}{b:02X}");
        svg.replace(&format!("\"{hex}\""), &format!("\"var(--{}, {hex})\"", ink.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_colours_are_distinct_and_become_variables() {
        let colours: Vec<Ink> = all().collect();
        for (index, ink) in colours.iter().enumerate() {
            let earlier = &colours[..index];
            assert!(
                earlier.iter().all(|o| o.light != ink.light && o.name != ink.name),
                "{} is there twice",
                ink.name
            );
        }
        assert_eq!(adopt("<line stroke=\"#0072B2\"/>"), "<line stroke=\"var(--method-1, #0072B2)\"/>");
    }

    #[test]
    fn known_methods_keep_their_look() {
        assert_eq!(look("asam", 0), look("asam", 5));
        assert_ne!(look("sgd", 0), look("sam", 0));
        assert_ne!(look("adam", 0).ink, look("lion", 1).ink);
    }
}
