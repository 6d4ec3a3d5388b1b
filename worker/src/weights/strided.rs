//! A tensor's view of its storage: offset, shape, strides; and reading it out in row-major order.
//!
//! Leaves out: where the bytes come from. Invariant: every index of a view lies in its storage.

use glmeval_common::limits::PARSER_ALLOCATION_BYTES_MAX;

/// What is wrong with a view.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) expected: String,
    pub(super) found: String,
}

fn misfit(expected: impl Into<String>, found: impl Into<String>) -> Misfit {
    Misfit { expected: expected.into(), found: found.into() }
}

/// A checked view: offset and strides in elements.
#[derive(Clone, Debug)]
pub(super) struct Strided {
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    count: usize,
}

impl Strided {
    /// The row-major view of a whole storage of exactly that many elements.
    pub(super) fn contiguous(shape: Vec<usize>, count: usize) -> Self {
        let mut strides = vec![1_usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        Self { offset: 0, shape, strides, count }
    }

    /// Checks numbers that stand in a file against a storage of `elements`.
    pub(super) fn check(
        offset: i64,
        shape: &[i64],
        strides: &[i64],
        elements: usize,
    ) -> Result<Self, Misfit> {
        if shape.len() != strides.len() {
            let expected = format!("{} strides for shape {shape:?}", shape.len());
            return Err(misfit(expected, format!("{} ({strides:?})", strides.len())));
        }
        let unsigned = |numbers: &[i64], what: &str| {
            let converted: Result<_, _> = numbers.iter().map(|&n| usize::try_from(n)).collect();
            converted.map_err(|_| misfit(format!("{what} of at least 0"), format!("{numbers:?}")))
        };
        let shape: Vec<usize> = unsigned(shape, "a shape")?;
        let strides: Vec<usize> = unsigned(strides, "strides")?;
        let offset = unsigned(&[offset], "an offset")?.into_iter().sum::<usize>();
        let count = shape.iter().try_fold(1_usize, |count, &n| count.checked_mul(n));
        let count = count.filter(|&count| isize::try_from(count).is_ok()).ok_or_else(|| {
            misfit("a number of elements in 63 bits", format!("overflow of shape {shape:?}"))
        })?;
        let last = shape.iter().zip(&strides).try_fold(offset, |last, (&n, &stride)| {
            last.checked_add(n.saturating_sub(1).checked_mul(stride)?)
        });
        let needed = if count == 0 { Some(offset) } else { last.and_then(|n| n.checked_add(1)) };
        match needed {
            Some(needed) if needed <= elements => {}
            Some(needed) => {
                return Err(misfit(
                    format!("a view within the {elements} elements of its storage"),
                    format!("{needed} (offset {offset}, shape {shape:?}, strides {strides:?})"),
                ));
            }
            None => {
                return Err(misfit(
                    format!("a view within the {elements} elements of its storage"),
                    format!("overflow of strides {strides:?} over shape {shape:?}"),
                ));
            }
        }
        if count > elements.max(PARSER_ALLOCATION_BYTES_MAX / 8) {
            return Err(misfit(
                format!("a size within the limit of a storage of {elements} elements"),
                format!("{count} elements (shape {shape:?}, strides {strides:?})"),
            ));
        }
        Ok(Self { offset, shape, strides, count })
    }

    /// Extents, slowest first.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Calls `run` with (first cell, stride, length) of every run of the last axis in row-major
    /// order; the whole view is one run where it is contiguous.
    pub(super) fn for_each_run(&self, mut run: impl FnMut(usize, usize, usize)) {
        if self.count == 0 {
            return;
        }
        if self.is_contiguous() {
            return run(self.offset, 1, self.count);
        }
        let axes = self.shape.len() - 1;
        let mut index = vec![0_usize; axes];
        for _ in 0..self.count / self.shape[axes] {
            let start: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            run(self.offset + start, self.strides[axes], self.shape[axes]);
            for axis in (0..axes).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&n, &stride)| {
            let fits = n == 1 || stride == expected;
            expected *= n;
            fits
        })
    }

    /// The elements in row-major order, each made of `N` bytes of `storage` by `value`.
    pub(super) fn gather<const N: usize, T>(
        &self,
        storage: &[u8],
        value: impl Fn([u8; N]) -> T,
    ) -> Vec<T> {
        let cells = storage.as_chunks::<N>().0;
        let mut values = Vec::with_capacity(self.count);
        self.for_each_run(|start, stride, length| match stride {
            1 => values.extend(cells[start..start + length].iter().map(|cell| value(*cell))),
            _ => values.extend((0..length).map(|i| value(cells[start + i * stride]))),
        });
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gathered(view: &Strided) -> Vec<u8> {
        view.gather::<1, _>(&(0..24).collect::<Vec<u8>>(), |cell| cell[0])
    }

    #[test]
    fn column_major_storage_is_read_row_by_row() {
        let view = Strided::check(0, &[2, 3], &[1, 2], 24).unwrap();
        assert_eq!(gathered(&view), [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn a_window_starts_at_its_offset() {
        let view = Strided::check(13, &[2, 2], &[6, 1], 24).unwrap();
        assert_eq!(gathered(&view), [13, 14, 19, 20]);
        assert_eq!(gathered(&Strided::check(5, &[], &[], 24).unwrap()), [5]);
        assert_eq!(gathered(&Strided::check(24, &[0, 7], &[7, 1], 24).unwrap()), [0_u8; 0]);
    }

    proptest! {
        #[test]
        fn an_accepted_view_reads_what_nested_loops_read(
            offset in -1_i64..8,
            axes in prop::collection::vec((-1_i64..4, -1_i64..7), 0..4),
        ) {
            let (shape, strides): (Vec<i64>, Vec<i64>) = axes.into_iter().unzip();
            if let Ok(view) = Strided::check(offset, &shape, &strides, 24) {
                let mut expected = vec![offset];
                for (n, stride) in shape.iter().zip(&strides) {
                    expected = expected
                        .iter()
                        .flat_map(|base| (0..*n).map(move |i| base + i * stride))
                        .collect();
                }
                let found: Vec<i64> = gathered(&view).into_iter().map(i64::from).collect();
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn arbitrary_views_never_panic(
            offset: i64,
            shape in prop::collection::vec(any::<i64>(), 0..4),
            strides in prop::collection::vec(any::<i64>(), 0..4),
            elements in 0_usize..64,
        ) {
            let _ = Strided::check(offset, &shape, &strides, elements);
        }
    }
}
