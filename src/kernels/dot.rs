//! The only place that knows a CPU: int8 products summed in int32. Here is the portable path, plain Rust that
//! LLVM vectorizes; integer sums are the same in every order.

/// `sum (x[i] + offset) * w[i]` over the shorter length, wrapping.
#[inline]
pub fn dot(x: &[i8], offset: i32, w: &[i8]) -> i32 {
    x.iter().zip(w).fold(0i32, |sum, (&x, &w)| {
        // |x + offset| <= 255 and |w| <= 128: the product cannot overflow.
        sum.wrapping_add((i32::from(x) + offset) * i32::from(w))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_by_hand() {
        assert_eq!(dot(&[1, -2, 127], 128, &[3, 4, -128]), 3 * 129 + 4 * 126 - 128 * 255);
        assert_eq!(dot(&[], 5, &[]), 0);
    }
}
