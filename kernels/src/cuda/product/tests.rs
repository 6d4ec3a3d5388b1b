//! Products of every form, on every device.

use super::*;
use crate::cuda::testing::{assert_close, draw, for_each_device};
use crate::cuda::{DeviceArray, Gpu};
use crate::error::Result;

/// A form of product; the result's rows are `columns + 3` values apart.
#[derive(Clone, Copy)]
struct Form {
    rows: usize,
    columns: usize,
    depth: usize,
    turned: [bool; 2],
    has_bias: bool,
    adds: bool,
    class: ProductClass,
}

/// Operands on the host, `[rows, depth]` and `[columns, depth]`.
struct Drawn {
    left: Vec<f32>,
    right: Vec<f32>,
    bias: Vec<f32>,
    before: Vec<f32>,
}

impl Form {
    fn draw(&self) -> Drawn {
        let round = |values: Vec<f32>| -> Vec<f32> {
            values.iter().map(|x| Bf16::from_f32(*x).to_f32()).collect()
        };
        Drawn {
            left: round(draw(1, self.rows * self.depth)),
            right: round(draw(2, self.columns * self.depth)),
            bias: round(draw(3, self.columns)),
            before: round(draw(4, self.rows * (self.columns + 3))),
        }
    }

    /// What is expected, in f64.
    fn expected(&self, drawn: &Drawn) -> Vec<f32> {
        let (columns, depth) = (self.columns, self.depth);
        let mut out = drawn.before.clone();
        for row in 0..self.rows {
            for column in 0..columns {
                let pairs = drawn.left[row * depth..][..depth]
                    .iter()
                    .zip(&drawn.right[column * depth..][..depth]);
                let mut sum: f64 = pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                let place = row * (columns + 3) + column;
                sum += if self.has_bias { f64::from(drawn.bias[column]) } else { 0.0 };
                sum += if self.adds { f64::from(drawn.before[place]) } else { 0.0 };
                out[place] = sum as f32;
            }
        }
        out
    }

    /// What the device gives for operands and a result of these types.
    fn run<T: Word, O: Word>(&self, gpu: &Gpu, drawn: &Drawn) -> Result<Vec<f32>> {
        let (rows, columns, depth) = (self.rows, self.columns, self.depth);
        let place = |values: &[f32], extent: usize, turned: bool| -> Result<DeviceArray<T>> {
            let at =
                |i: usize| if turned { values[i % extent * depth + i / extent] } else { values[i] };
            let values: Vec<T> = (0..values.len()).map(|i| T::of(at(i))).collect();
            DeviceArray::from_slice(gpu, &values)
        };
        let left = place(&drawn.left, rows, self.turned[0])?;
        let right = place(&drawn.right, columns, self.turned[1])?;
        let bias = DeviceArray::from_slice(gpu, &drawn.bias)?;
        let before: Vec<O> = drawn.before.iter().map(|x| O::of(*x)).collect();
        let mut out = DeviceArray::from_slice(gpu, &before)?;
        gpu.multiply(&Product {
            rows,
            columns,
            depth,
            left: operand(left.view(), depth, rows, self.turned[0]),
            right: operand(right.view(), depth, columns, self.turned[1]),
            bias: self.has_bias.then(|| bias.view()),
            adds: self.adds,
            out: Output::rows(out.view_mut(), columns + 3),
            class: self.class,
        })?;
        Ok(out.to_vec()?.iter().map(|x| x.value()).collect())
    }
}

fn operand<T: Value>(view: View<'_, T>, depth: usize, extent: usize, turned: bool) -> Operand<'_> {
    match turned {
        true => Operand::transposed(view, extent),
        false => Operand::rows(view, depth),
    }
}

trait Word: Value {
    fn of(x: f32) -> Self;
    fn value(self) -> f32;
}

impl Word for f32 {
    fn of(x: f32) -> Self {
        x
    }
    fn value(self) -> f32 {
        self
    }
}

impl Word for Bf16 {
    fn of(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

fn forms() -> impl Iterator<Item = Form> {
    let shapes = [(1, 1, 1), (5, 7, 3), (33, 40, 64), (9, 130, 257)];
    let turns = [[false, false], [true, false], [false, true], [true, true]];
    shapes.into_iter().flat_map(move |(rows, columns, depth)| {
        turns.into_iter().enumerate().map(move |(i, turned)| Form {
            rows,
            columns,
            depth,
            turned,
            has_bias: i % 2 == 0,
            adds: i / 2 == 0,
            class: ProductClass::F32,
        })
    })
}

#[test]
fn products_of_every_form_are_products() {
    for_each_device(|gpu| {
        for form in forms() {
            let drawn = form.draw();
            let expected = form.expected(&drawn);
            assert_close(&form.run::<f32, f32>(gpu, &drawn)?, &expected, 1e-5);
            assert_close(&form.run::<Bf16, f32>(gpu, &drawn)?, &expected, 1e-5);
            assert_close(&form.run::<Bf16, Bf16>(gpu, &drawn)?, &expected, 8e-3);
            // Operands have 8 bits of fraction, so the 10 of tf32 lose nothing.
            let form = Form { class: ProductClass::Tf32, ..form };
            assert_close(&form.run::<f32, f32>(gpu, &drawn)?, &expected, 1e-5);
        }
        Ok(())
    });
}

#[test]
fn the_emulator_reads_ten_bits_of_fraction_in_tf32_and_all_of_them_in_f32() {
    // The sum keeps what a factor loses: ten bits, halfway up to the next, eleven bits down.
    let fractions =
        [1.0, 1.0 + 2.0_f32.powi(-10), 1.0 + 2.0_f32.powi(-11), 1.0 - 2.0_f32.powi(-12)];
    let rounded = [1.0, 1.0 + 2.0_f32.powi(-10), 1.0 + 2.0_f32.powi(-10), 1.0];
    let shape = Form {
        rows: fractions.len(),
        columns: 1,
        depth: 1,
        turned: [false, false],
        has_bias: true,
        adds: false,
        class: ProductClass::F32,
    };
    let half = 2.0_f32.powi(-13);
    let left = fractions.to_vec();
    let before = vec![0.0; 4 * fractions.len()];
    let drawn = Drawn { left, right: vec![1.0], bias: vec![half], before };
    for_each_device(|gpu| {
        if gpu.properties().arch != 0 {
            // How a library rounds, and whether it does for a product this small, is its own.
            return Ok(());
        }
        for (class, factors) in [(ProductClass::F32, fractions), (ProductClass::Tf32, rounded)] {
            let found = Form { class, ..shape }.run::<f32, f32>(gpu, &drawn)?;
            let expected: Vec<f32> = factors.iter().map(|factor| factor + half).collect();
            let found: Vec<f32> = found.chunks(4).map(|row| row[0]).collect();
            assert_eq!(found, expected, "{class:?}");
        }
        Ok(())
    });
}

#[test]
fn a_rows_bits_do_not_depend_on_how_many_there_are() {
    for_each_device(|gpu| {
        let all = Form {
            rows: 300,
            columns: 24,
            depth: 72,
            turned: [false, false],
            has_bias: true,
            adds: false,
            class: ProductClass::Tf32,
        };
        let drawn = all.draw();
        let together = all.run::<f32, f32>(gpu, &drawn)?;
        for rows in [1, 7, 64, 299] {
            let left = drawn.left[..rows * all.depth].to_vec();
            let before = drawn.before[..rows * (all.columns + 3)].to_vec();
            let (right, bias) = (drawn.right.clone(), drawn.bias.clone());
            let part = Drawn { left, right, bias, before };
            let alone = Form { rows, ..all }.run::<f32, f32>(gpu, &part)?;
            assert!(alone.iter().zip(&together).all(|(x, y)| x.to_bits() == y.to_bits()));
        }
        Ok(())
    });
}

#[test]
fn a_bf16_result_of_f32_operands_is_refused_as_no_library_has_it() {
    for_each_device(|gpu| {
        let form = Form { has_bias: true, ..forms().next().unwrap() };
        let refused = form.run::<f32, Bf16>(gpu, &form.draw()).unwrap_err();
        assert!(refused.to_string().contains("expected F32 values"), "{refused}");
        Ok(())
    });
}
