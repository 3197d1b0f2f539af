//! Cholesky factor of a symmetric matrix, packed as its lower triangle, row after row.

use crate::cpu::lanes::{add_scaled, dot, norm_squared};

/// Elements of a packed triangle with so many rows.
pub const fn triangle(rows: usize) -> usize {
    rows.saturating_mul(rows + 1) / 2
}

/// Turns row `row` of `S` into that of `L`, `S = L L^T`; rows above are of `L` already. No pivot is taken to be below
/// `floor`, which a matrix with `floor` on its diagonal has but for rounding.
pub fn factor_row(packed: &mut [f32], row: usize, floor: f32) {
    let Some((above, own)) = packed.split_at_mut_checked(triangle(row)) else { return };
    for column in 0..row {
        let other = above.get(triangle(column)..triangle(column + 1)).and_then(<[f32]>::split_last);
        let (Some((&pivot, other)), Some((before, rest))) = (other, own.split_at_mut_checked(column)) else {
            return;
        };
        if let Some(value) = rest.first_mut() {
            *value = (*value - dot(before, other)) / pivot;
        }
    }
    let Some((before, rest)) = own.split_at_mut_checked(row) else { return };
    if let Some(pivot) = rest.first_mut() {
        *pivot = crate::math::sqrt((*pivot - norm_squared(before)).max(floor));
    }
}

/// Replaces `x` by `S^-1 x`, given `L`; `x^T S^-1 x` is returned.
pub fn solve(packed: &[f32], x: &mut [f32]) -> f32 {
    for row in 0..x.len() {
        let Some(Some((&pivot, before))) =
            packed.get(triangle(row)..triangle(row + 1)).map(<[f32]>::split_last)
        else {
            return 0.0;
        };
        let Some((left, rest)) = x.split_at_mut_checked(row) else { return 0.0 };
        if let Some(value) = rest.first_mut() {
            *value = (*value - dot(before, left)) / pivot;
        }
    }
    let form = norm_squared(x);
    for row in (0..x.len()).rev() {
        let Some(Some((&pivot, before))) =
            packed.get(triangle(row)..triangle(row + 1)).map(<[f32]>::split_last)
        else {
            return 0.0;
        };
        let Some((left, rest)) = x.split_at_mut_checked(row) else { return 0.0 };
        if let Some(value) = rest.first_mut() {
            *value /= pivot;
            add_scaled(left, -*value, before);
        }
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: L = [[2], [1, 3], [-1, 2, 1]], S = L L^T.
    #[test]
    fn a_matrix_made_of_its_factor_is_factored_and_solved() {
        let mut packed = [4.0, 2.0, 10.0, -2.0, 5.0, 6.0];
        (0..3).for_each(|row| factor_row(&mut packed, row, 0.0));
        assert_eq!(packed, [2.0, 1.0, 3.0, -1.0, 2.0, 1.0]);
        // S (1, -1, 2) = (4 - 2 - 4, 2 - 10 + 10, -2 - 5 + 12).
        let mut x = [-2.0, 2.0, 5.0];
        let form = solve(&packed, &mut x);
        assert_eq!(x, [1.0, -1.0, 2.0]);
        assert_eq!(form, -2.0 - 2.0 + 10.0);
    }

    #[test]
    fn a_pivot_that_rounding_lost_is_the_floor() {
        // Singular: the second pivot would be 0.
        let mut packed = [1.0, 1.0, 1.0];
        (0..2).for_each(|row| factor_row(&mut packed, row, 0.25));
        assert_eq!(packed, [1.0, 1.0, 0.5]);
    }
}
