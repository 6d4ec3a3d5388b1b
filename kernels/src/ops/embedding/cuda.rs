//! Token embedding on a device.
//!
//! Leaves out: norms. Invariant: ids and places are checked on the host before the device reads them.

use crate::cuda::{Arguments, Budget, DeviceArray, Gpu, Instance, Source, View, ViewMut};
use crate::error::{KernelError, Result, check_length, check_rows};
use crate::ops::vectors::{THREADS, is_wide, shape_of};

const OP: &str = "embedding";
/// Columns of a thread where rows are aligned.
const WIDTH: usize = 4;

/// The kernel's text.
pub(crate) static SOURCE: Source = Source {
    name: OP,
    text: include_str!("../embedding.cu"),
    kernels: &[OP],
    instances: &[instance(&[("WIDTH", 1)]), instance(&[("WIDTH", 4)])],
};

const fn instance(defines: &'static [(&'static str, i64)]) -> Instance {
    const BUDGET: &[Budget] = &[Budget { kernel: OP, registers: 32, shared_bytes: 0 }];
    Instance { defines, budgets: BUDGET }
}

/// Which rows of the tables each token has, on the device.
pub struct TokenRows {
    ids: DeviceArray<u32>,
    places: Option<DeviceArray<u32>>,
    scales: Option<DeviceArray<f32>>,
    /// The largest of `ids` and `places`; none without tokens.
    last: [Option<u32>; 2],
}

impl TokenRows {
    /// Takes them to the device: rows of the table of words and of that of positions, and factors of words, `[N]` each.
    ///
    /// # Errors
    /// `Shape` if they are not as many; `OutOfMemory` if there is no room.
    pub fn new(
        gpu: &Gpu,
        ids: &[u32],
        places: Option<&[u32]>,
        scales: Option<&[f32]>,
    ) -> Result<Self> {
        let count = ids.len();
        check_length(OP, "places", places.map_or(count, <[u32]>::len), count)?;
        check_length(OP, "scales", scales.map_or(count, <[f32]>::len), count)?;
        let last = [ids.iter().max(), places.and_then(|places| places.iter().max())];
        Ok(Self {
            ids: DeviceArray::from_slice(gpu, ids)?,
            places: places.map(|places| DeviceArray::from_slice(gpu, places)).transpose()?,
            scales: scales.map(|scales| DeviceArray::from_slice(gpu, scales)).transpose()?,
            last: last.map(Option::<&u32>::copied),
        })
    }
}

/// Writes the rows of tokens.
///
/// ```text
/// out[n,:] = scales[n] words[ids[n],:] + positions[places[n],:]     factor and last term where there are such
/// ```
///
/// - `words`: `[V, D]`
/// - `positions`: `[P, D]`; needs places
/// - `out`: `[N, D]`, D by `width`
///
/// The same bits as the formula in f32 with each step rounded.
///
/// # Errors
/// `Shape` if a table is not whole rows of D, a token has a row past a table, places lack a table or the other way, or `out` does
/// not fit.
pub fn embedding(
    tokens: &TokenRows,
    words: View<'_, f32>,
    positions: Option<View<'_, f32>>,
    width: usize,
    out: &mut ViewMut<'_, f32>,
) -> Result<()> {
    let count = tokens.ids.len();
    check_table("words", &words, width, tokens.last[0])?;
    check_length(OP, "positions", positions.iter().len(), tokens.places.iter().len())?;
    if let Some(positions) = &positions {
        check_table("positions", positions, width, tokens.last[1])?;
    }
    check_length(OP, "out", out.len(), count.saturating_mul(width))?;
    let table = positions.as_ref().map_or(0, View::address);
    let wide = is_wide(width, WIDTH, &[words.address(), table, out.address()]);
    let each = if wide { WIDTH } else { 1 };
    let kernel = out.gpu().kernel(&SOURCE, OP, &[("WIDTH", each as i64)])?;
    let shape = shape_of(OP, out.len() / each, THREADS as usize)?;
    let arguments = Arguments::new()
        .array(&tokens.ids.view())
        .optional(tokens.scales.as_ref().map(DeviceArray::view).as_ref())
        .optional(tokens.places.as_ref().map(DeviceArray::view).as_ref())
        .array(&words)
        .optional(positions.as_ref())
        .output(out)
        .u32(count as u32)
        .u32(width as u32);
    // SAFETY: every id and place is below the rows of its table; out has a row for each token.
    unsafe { kernel.launch(shape, arguments) }
}

/// Refuses a table that is not whole rows, or ends before row `last`.
fn check_table(
    operand: &'static str,
    table: &View<'_, f32>,
    width: usize,
    last: Option<u32>,
) -> Result<()> {
    let rows = check_rows(OP, operand, table.len(), width)?;
    match last {
        Some(last) if last as usize >= rows => Err(KernelError::Shape {
            op: OP,
            operand,
            expected: format!("more than {last} rows"),
            found: format!("{rows} rows"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::testing::{draw, for_each_device};

    #[test]
    fn rows_are_scaled_and_added_with_the_bits_of_the_cpu() {
        for_each_device(|gpu| {
            for (count, width) in [(1, 1), (5, 30), (70, 48), (3, 257)] {
                let (words, positions) = (draw(1, 7 * width), draw(2, 9 * width));
                let ids: Vec<u32> = (0..count).map(|n| n * 5 % 7).collect();
                let places: Vec<u32> = (0..count).map(|n| n * 4 % 9).collect();
                let scales = draw(3, count as usize);
                let row = |table: &[f32], row: u32| table[row as usize * width..][..width].to_vec();
                let expected: Vec<f32> = (0..count as usize)
                    .flat_map(|n| {
                        let (word, place) = (row(&words, ids[n]), row(&positions, places[n]));
                        let scale = scales[n];
                        word.into_iter().zip(place).map(move |(word, place)| scale * word + place)
                    })
                    .collect();
                let tables = [
                    DeviceArray::from_slice(gpu, &words)?,
                    DeviceArray::from_slice(gpu, &positions)?,
                ];
                let mut out = DeviceArray::<f32>::new(gpu, expected.len())?;
                let tokens = TokenRows::new(gpu, &ids, Some(&places), Some(&scales))?;
                let positions = Some(tables[1].view());
                embedding(&tokens, tables[0].view(), positions, width, &mut out.view_mut())?;
                assert_eq!(out.to_vec()?, expected);
                let tokens = TokenRows::new(gpu, &ids, None, None)?;
                embedding(&tokens, tables[0].view(), None, width, &mut out.view_mut())?;
                let plain: Vec<f32> = ids.iter().flat_map(|&id| row(&words, id)).collect();
                assert_eq!(out.to_vec()?, plain);
            }
            Ok(())
        });
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        for_each_device(|gpu| {
            let table = DeviceArray::from_slice(gpu, &[1.0_f32; 6])?;
            let mut out = DeviceArray::<f32>::new(gpu, 4)?;
            let tokens = TokenRows::new(gpu, &[0, 3], None, None)?;
            let refused = embedding(&tokens, table.view(), None, 2, &mut out.view_mut());
            assert!(refused.unwrap_err().to_string().contains("expected more than 3 rows"));
            let tokens = TokenRows::new(gpu, &[0, 2], Some(&[0, 0]), None)?;
            let refused = embedding(&tokens, table.view(), None, 2, &mut out.view_mut());
            assert!(matches!(refused, Err(KernelError::Shape { operand: "positions", .. })));
            assert!(TokenRows::new(gpu, &[0, 2], Some(&[0]), None).is_err());
            let tokens = TokenRows::new(gpu, &[], None, None)?;
            embedding(&tokens, table.view(), None, 2, &mut out.view_mut().part(0..0))?;
            Ok(())
        });
    }
}
