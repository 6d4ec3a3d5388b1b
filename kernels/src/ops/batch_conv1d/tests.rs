use super::*;

fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed) as f32 * 0.37).sin()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn in_pool<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

/// One convolution's operands.
struct Case {
    shape: BatchConv1dShape,
    x: Vec<f32>,
    dy: Vec<f32>,
    kernel: Vec<f32>,
    bias: Vec<f32>,
    shift: Vec<f32>,
    scale: Vec<f32>,
}

/// What the three products give.
#[derive(PartialEq, Debug)]
struct Results {
    out: Vec<f32>,
    dx: Vec<f32>,
    dkernel: Vec<f32>,
    dbias: Vec<f32>,
}

impl Case {
    fn new(batch: usize, shape: BatchConv1dShape) -> Self {
        Self {
            shape,
            x: values(batch * shape.length * shape.input_width, 1),
            dy: values(batch * shape.output_length * shape.output_width, 2),
            kernel: values(shape.steps() * shape.output_width, 3),
            bias: values(shape.output_width, 4),
            shift: values(shape.input_width, 5),
            scale: values(shape.input_width, 6),
        }
    }

    fn input(&self) -> Input<'_> {
        let affine = Affine { shift: &self.shift, scale: &self.scale };
        Input { values: &self.x, affine: Some(affine) }
    }

    /// All three products.
    fn run(&self, isa: Isa, precision: Precision) -> Results {
        let mut conv = BatchConv1d::new(self.shape, precision, true, true).unwrap();
        // Twice, so that old weights would show.
        conv.set_weights(&vec![9.0; self.kernel.len()], Some(&self.bias)).unwrap();
        conv.set_weights(&self.kernel, Some(&self.bias)).unwrap();
        let mut results = Results {
            out: vec![f32::NAN; self.dy.len()],
            dx: vec![f32::NAN; self.x.len()],
            dkernel: vec![f32::NAN; self.kernel.len()],
            dbias: vec![f32::NAN; self.bias.len()],
        };
        conv.forward_on(isa, self.input(), Epilogue::None, &mut results.out).unwrap();
        conv.input_gradient_on(isa, &self.dy, &mut results.dx).unwrap();
        let operands = (self.input(), self.dy.as_slice());
        let dbias = Some(results.dbias.as_mut_slice());
        conv.weight_gradient_on(isa, operands, &mut results.dkernel, dbias).unwrap();
        results
    }

    /// All three by their definition in f64, over operands that `round` prepares.
    fn by_definition(&self, round: fn(f32) -> f32) -> [Vec<f64>; 4] {
        let BatchConv1dShape { length, input_width, output_width, output_length, .. } = self.shape;
        let x = |row: usize, c: usize| {
            f64::from(round((self.x[row * input_width + c] - self.shift[c]) * self.scale[c]))
        };
        let mut out = vec![0.0; self.dy.len()];
        let mut dx = vec![0.0; self.x.len()];
        let mut dkernel = vec![0.0; self.kernel.len()];
        let mut dbias = vec![0.0; self.bias.len()];
        for row in 0..self.dy.len() / output_width {
            for (o, dbias) in dbias.iter_mut().enumerate() {
                out[row * output_width + o] += f64::from(self.bias[o]);
                *dbias += f64::from(self.dy[row * output_width + o]);
            }
            let (sequence, position) = (row / output_length, row % output_length);
            for j in 0..self.shape.kernel {
                let source = (position + j * self.shape.dilation) as isize
                    - self.shape.padding_left as isize;
                if source < 0 || source >= length as isize {
                    continue;
                }
                let source = sequence * length + source as usize;
                for c in 0..input_width {
                    for o in 0..output_width {
                        let weight = (j * input_width + c) * output_width + o;
                        let w = f64::from(round(self.kernel[weight]));
                        let dy = f64::from(round(self.dy[row * output_width + o]));
                        out[row * output_width + o] += x(source, c) * w;
                        dx[source * input_width + c] += dy * w;
                        dkernel[weight] += x(source, c) * dy;
                    }
                }
            }
        }
        [out, dx, dkernel, dbias]
    }
}

fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

fn shapes() -> Vec<(usize, BatchConv1dShape)> {
    vec![
        (3, BatchConv1dShape::same(11, 5, 3, 7, 1)),
        (2, BatchConv1dShape::same(9, 4, 33, 4, 1)),
        (2, BatchConv1dShape::same(5, 13, 17, 5, 3)),
        (2, BatchConv1dShape::same(3, 2, 2, 4, 2)),
        (3, BatchConv1dShape::valid(13, 25, 7, 3, 2)),
        (4, BatchConv1dShape::valid(6, 12, 40, 6, 1)),
        (7, BatchConv1dShape::dense(1, 30, 20)),
        // Inputs enough for few outputs to be summed as they lie.
        (5, BatchConv1dShape::dense(1, 2100, 3)),
        (515, BatchConv1dShape::dense(1, 2049, 1)),
        // More blocks than are summed at the same time.
        (8300, BatchConv1dShape::dense(1, 3, 2)),
        (5, BatchConv1dShape::same(211, 4, 3, 3, 1)),
        // Tiles enough for block after block.
        (3, BatchConv1dShape::same(200, 70, 5, 4, 2)),
    ]
}

#[test]
fn all_three_products_are_those_of_the_definition() {
    for (batch, shape) in shapes() {
        let case = Case::new(batch, shape);
        for (precision, round) in
            [(Precision::F32, (|x| x) as fn(f32) -> f32), (Precision::Bf16, rounded)]
        {
            let found = case.run(Isa::best(), precision);
            let found = [found.out, found.dx, found.dkernel, found.dbias];
            for (operand, (found, expected)) in
                found.iter().zip(case.by_definition(round)).enumerate()
            {
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (f64::from(*found) - expected).abs();
                    let context = format!("{precision:?} {shape:?} {operand} {found} {expected}");
                    assert!(error < 5e-5 * (1.0 + expected.abs()), "{context}");
                }
            }
        }
    }
}

#[test]
fn worked_even_kernel_has_its_extra_zero_on_the_right() {
    let shape = BatchConv1dShape::same(3, 1, 1, 2, 1);
    assert_eq!(shape.padding_left, 0);
    let mut conv = BatchConv1d::new(shape, Precision::F32, true, true).unwrap();
    conv.set_weights(&[10.0, 1.0], Some(&[0.5])).unwrap();
    let (x, dy) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 10.0, 100.0, 0.0, 0.0, 1.0]);
    let mut out = [9.0; 6];
    conv.forward(Input::plain(&x), Epilogue::None, &mut out).unwrap();
    assert_eq!(out, [12.5, 23.5, 30.5, 45.5, 56.5, 60.5]);
    let mut dx = [9.0; 6];
    conv.input_gradient(&dy, &mut dx).unwrap();
    assert_eq!(dx, [10.0, 101.0, 1010.0, 0.0, 0.0, 10.0]);
    let (mut dkernel, mut dbias) = ([9.0; 2], [9.0]);
    conv.weight_gradient(Input::plain(&x), &dy, &mut dkernel, Some(&mut dbias)).unwrap();
    assert_eq!((dkernel, dbias), ([1.0 + 20.0 + 300.0 + 6.0, 2.0 + 30.0], [112.0]));
}

#[test]
fn threads_and_instruction_sets_never_change_a_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (batch, shape) in shapes() {
            let case = Case::new(batch, shape);
            let expected = in_pool(1, || case.run(Isa::Baseline, precision));
            for isa in Isa::available() {
                for threads in [1, 2, 3] {
                    let found = in_pool(threads, || case.run(isa, precision));
                    let context = format!("{precision:?} {shape:?} {isa:?} {threads}");
                    assert_eq!(bits(&found.out), bits(&expected.out), "{context}");
                    assert_eq!(bits(&found.dx), bits(&expected.dx), "{context}");
                    assert_eq!(bits(&found.dkernel), bits(&expected.dkernel), "{context}");
                    assert_eq!(bits(&found.dbias), bits(&expected.dbias), "{context}");
                }
            }
        }
    }
}

#[test]
fn weight_gradients_are_chains_of_512_positions_added_in_order() {
    // Of the second, the products take the operands the other way round; the third reads inputs as they lie.
    for (inputs, outputs) in [(2, 3), (70, 20), (2100, 2)] {
        let shape = BatchConv1dShape::dense(1, inputs, outputs);
        let case = Case::new(1100, shape);
        let found = case.run(Isa::best(), Precision::F32);
        let x = |row: usize, c: usize| (case.x[row * inputs + c] - case.shift[c]) * case.scale[c];
        for (c, o) in (0..inputs).flat_map(|c| (0..outputs).map(move |o| (c, o))) {
            let block = |rows: std::ops::Range<usize>| {
                rows.fold((0.0_f32, 0.0), |(weight, bias), row| {
                    let dy = case.dy[row * outputs + o];
                    (x(row, c).mul_add(dy, weight), bias + dy)
                })
            };
            let [first, second, third] = [block(0..512), block(512..1024), block(1024..1100)];
            assert_eq!(found.dkernel[c * outputs + o], first.0 + second.0 + third.0);
            assert_eq!(found.dbias[o], first.1 + second.1 + third.1);
        }
    }
}

#[test]
fn a_sequence_has_the_same_outputs_alone_and_in_a_batch() {
    for precision in [Precision::F32, Precision::Bf16] {
        let shape = BatchConv1dShape::same(37, 6, 20, 5, 2);
        let case = Case::new(9, shape);
        let all = case.run(Isa::best(), precision);
        let (of_x, of_out) = (37 * 6, 37 * 20);
        for sequence in [0, 4, 8] {
            let mut alone = Case::new(1, shape);
            alone.x.copy_from_slice(&case.x[sequence * of_x..][..of_x]);
            alone.dy.copy_from_slice(&case.dy[sequence * of_out..][..of_out]);
            let alone = alone.run(Isa::best(), precision);
            assert_eq!(alone.out, all.out[sequence * of_out..][..of_out]);
            assert_eq!(alone.dx, all.dx[sequence * of_x..][..of_x]);
        }
    }
}

#[test]
fn zeros_beyond_the_ends_are_not_mapped() {
    let shape = BatchConv1dShape::same(2, 1, 1, 3, 1);
    let mut conv = BatchConv1d::new(shape, Precision::F32, false, false).unwrap();
    conv.set_weights(&[1.0, 1.0, 1.0], None).unwrap();
    let affine = Some(Affine { shift: &[-1.0], scale: &[2.0] });
    let mut out = [0.0; 2];
    conv.forward(Input { values: &[0.0, 3.0], affine }, Epilogue::None, &mut out).unwrap();
    assert_eq!(out, [10.0, 10.0]);
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let refused = |shape| BatchConv1d::new(shape, Precision::F32, true, true).err().unwrap();
    let shape = BatchConv1dShape::same(4, 2, 3, 3, 1);
    assert!(refused(BatchConv1dShape { dilation: 0, ..shape }).to_string().contains("dilation"));
    assert!(refused(BatchConv1dShape::valid(4, 2, 3, 5, 1)).to_string().contains("output_length"));
    assert!(refused(BatchConv1dShape { padding_left: 3, ..shape }).to_string().contains("padding"));
    assert!(
        refused(BatchConv1dShape { dilation: usize::MAX, ..shape }).to_string().contains("count")
    );
    let mut conv = BatchConv1d::new(shape, Precision::F32, true, false).unwrap();
    assert!(conv.set_weights(&[0.0; 18], None).is_err());
    assert!(conv.set_weights(&[0.0; 17], Some(&[0.0; 3])).is_err());
    conv.set_weights(&[0.0; 18], Some(&[0.0; 3])).unwrap();
    let (x, mut out) = ([0.0; 16], [0.0; 24]);
    conv.forward(Input::plain(&x), Epilogue::None, &mut out).unwrap();
    assert!(conv.forward(Input::plain(&x[1..]), Epilogue::None, &mut out).is_err());
    assert!(conv.forward(Input::plain(&x), Epilogue::None, &mut out[1..]).is_err());
    assert!(conv.forward(Input::plain(&x), Epilogue::SiluGate, &mut out).is_err());
    let affine = Some(Affine { shift: &[0.0], scale: &[0.0, 0.0] });
    assert!(conv.forward(Input { values: &x, affine }, Epilogue::None, &mut out).is_err());
    assert!(conv.input_gradient(&out, &mut [0.0; 16]).is_err());
    assert!(conv.weight_gradient(Input::plain(&x), &out, &mut [0.0; 17], None).is_err());
    assert!(
        conv.weight_gradient(Input::plain(&x), &out, &mut [0.0; 18], Some(&mut [0.0])).is_err()
    );
    let mut dkernel = [1.0; 18];
    conv.weight_gradient(Input::plain(&[]), &[], &mut dkernel, None).unwrap();
    assert_eq!(dkernel, [0.0; 18]);
}
