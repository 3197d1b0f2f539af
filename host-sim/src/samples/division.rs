//! Which samples are tuned on and which tested.

/// Places of samples, and how they were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// Tuned on.
    pub tuned: Vec<usize>,
    /// Tested.
    pub tested: Vec<usize>,
    /// In words, for table and report.
    pub how: String,
}

impl Division {
    /// Of each class the first half is tuned on, the second half tested.
    pub fn halves(labels: &[usize]) -> Self {
        let classes = labels.iter().max().map_or(0, |largest| largest + 1);
        let mut totals = vec![0_usize; classes];
        labels.iter().for_each(|&label| totals[label] += 1);
        let mut seen = vec![0_usize; classes];
        let first = |&sample: &usize| {
            let label = labels[sample];
            seen[label] += 1;
            seen[label] <= totals[label] / 2
        };
        let (tuned, tested) = (0..labels.len()).partition(first);
        let how = if classes > 1 {
            "first half of each class tuned, second tested"
        } else {
            "first half tuned, second tested"
        };
        Self { tuned, tested, how: how.into() }
    }

    /// Whole groups are tuned on, in the order in which they first appear, up to half of the samples; the others are
    /// tested. At least one group is on each side where there are two.
    pub fn of_groups(groups: &[String]) -> Self {
        let mut names: Vec<&String> = Vec::new();
        groups.iter().for_each(|group| {
            if !names.contains(&group) {
                names.push(group)
            }
        });
        let size = |name: &String| groups.iter().filter(|group| *group == name).count();
        let (mut count, mut own) = (0, 0);
        for name in &names {
            let next = count + size(name);
            if own > 0 && (2 * next > groups.len() || own + 1 == names.len()) {
                break;
            }
            (count, own) = (next, own + 1);
        }
        let own = own.min(names.len().saturating_sub(1));
        let first = |&sample: &usize| names[..own].contains(&&groups[sample]);
        let (tuned, tested) = (0..groups.len()).partition(first);
        let how = format!("{own} of {} groups tuned, the others tested", names.len());
        Self { tuned, tested, how }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_each_class_in_their_order() {
        let division = Division::halves(&[0, 1, 0, 1, 0, 0, 1]);
        assert_eq!((division.tuned, division.tested), (vec![0, 1, 2], vec![3, 4, 5, 6]));
        let single = Division::halves(&[0; 5]);
        assert_eq!((single.tuned, single.tested), (vec![0, 1], vec![2, 3, 4]));
    }

    #[test]
    fn no_group_is_on_both_sides() {
        let groups: Vec<String> = ["a", "b", "a", "c", "b", "a", "d"].map(str::to_owned).into();
        let division = Division::of_groups(&groups);
        assert_eq!((&division.tuned[..], &division.tested[..]), (&[0, 2, 5][..], &[1, 3, 4, 6][..]));
        assert_eq!(division.how, "1 of 4 groups tuned, the others tested");
        // The first is larger than half; two groups alone; one group leaves nothing to tune on.
        let first = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
            Division::of_groups(&groups).tuned
        };
        assert_eq!(first(&["a", "a", "a", "b"]), [0, 1, 2]);
        assert_eq!(first(&["a", "b", "b", "b"]), [0]);
        assert_eq!(first(&["a", "a"]), [0_usize; 0]);
    }
}
