//! Convolutions and dense layers with their gradients against their fixtures.
//!
//! Leaves out: layers without weights. Invariant: as in the head of this target.

use glmeval_kernels::ops::batch_conv1d::{BatchConv1d, BatchConv1dShape, Input};
use glmeval_kernels::ops::depthwise_conv1d::{DepthwiseConv1dShape, depthwise_conv1d};
use glmeval_kernels::ops::linear::Epilogue;
use glmeval_kernels::ops::precision::Precision;
use glmeval_tests::golden::cases::{Case, FORWARD, GRADIENT, SUM, check};

#[test]
fn convolutions_agree() {
    for family in ["conv1d", "conv1d_large"] {
        check(family, |case| {
            let &[_, length, _] = case.shape("x") else { return false };
            let &[kernel, inputs, outputs] = case.shape("kernel") else { return false };
            let dilation = case.count("dilation");
            let shape = match case.text("padding") {
                "same" => BatchConv1dShape::same(length, inputs, outputs, kernel, dilation),
                "valid" => BatchConv1dShape::valid(length, inputs, outputs, kernel, dilation),
                _ => return false,
            };
            assert_eq!(shape.padding_left, case.count("pad_left"), "{}", case.name());
            products_agree(case, shape);
            true
        });
    }
}

#[test]
fn dense_layers_agree() {
    check("dense", |case| {
        let &[inputs, outputs] = case.shape("kernel") else { return false };
        let (&last, batch) = case.shape("x").split_last().expect("x has an axis");
        assert_eq!(last, inputs, "{}", case.name());
        let length = batch.get(1..).map_or(1, |positions| positions.iter().product());
        products_agree(case, BatchConv1dShape::dense(length, inputs, outputs));
        true
    });
}

/// Why no operation refuses a case.
const FITS: &str = "a case fits its own description";

/// Runs a product and its three gradients.
fn products_agree(case: &Case, shape: BatchConv1dShape) {
    let bias = case.has("bias").then(|| case.f32("bias"));
    let mut product = BatchConv1d::new(shape, Precision::F32, bias.is_some(), true).expect(FITS);
    product.set_weights(&case.f32("kernel"), bias.as_deref()).expect(FITS);
    let (x, dy) = (case.f32("x"), case.f32("dy"));
    let (mut y, mut dx, mut dw) = (case.place("y"), case.place("dx"), case.place("dw"));
    product.forward(Input::plain(&x), Epilogue::None, &mut y).expect(FITS);
    product.input_gradient(&dy, &mut dx).expect(FITS);
    let mut db = bias.as_ref().map(|bias| vec![0.0; bias.len()]);
    product.weight_gradient(Input::plain(&x), &dy, &mut dw, db.as_deref_mut()).expect(FITS);
    case.check("y", &y, FORWARD);
    case.check("dx", &dx, GRADIENT);
    case.check("dw", &dw, SUM);
    if let (Some(db), true) = (db, case.has("db")) {
        case.check("db", &db, SUM);
    }
}

/// Channels come first there; all zeros lie before the first position.
#[test]
fn causal_convolutions_of_each_channel_agree() {
    check("longconv", |case| {
        if case.text("op") != "short_causal_depthwise" {
            return false;
        }
        let &[sequences, width, length] = case.shape("u") else { return false };
        let kernel = case.count("k");
        let (u, weight) = (case.f32("u"), case.f32("weight"));
        let mut x = vec![0.0; u.len()];
        for (i, value) in x.iter_mut().enumerate() {
            let (sequence, position, channel) = (i / width / length, i / width % length, i % width);
            *value = u[(sequence * width + channel) * length + position];
        }
        let filters: Vec<f32> =
            (0..kernel * width).map(|i| weight[i % width * kernel + i / width]).collect();
        let padding_left = kernel - 1;
        let shape = DepthwiseConv1dShape {
            padding_left,
            ..DepthwiseConv1dShape::same(length, width, kernel, 1)
        };
        let mut y = vec![0.0; sequences * length * width];
        depthwise_conv1d(&x, &shape, &filters, Some(&case.f32("bias")), &mut y).unwrap();
        let mut turned = vec![0.0; y.len()];
        for (i, value) in turned.iter_mut().enumerate() {
            let (sequence, channel, position) =
                (i / length / width, i / length % width, i % length);
            *value = y[(sequence * length + position) * width + channel];
        }
        case.check("y", &turned, FORWARD);
        true
    });
}
