use super::*;

const SHAPE: PoolShape = PoolShape { length: 5, width: 2, size: 2 };
const X: [f32; 10] = [1.0, 4.0, 3.0, 4.0, 5.0, -9.0, -5.0, -8.0, 99.0, 99.0];

#[test]
fn worked_maxima_send_all_to_the_first_one() {
    let (mut out, mut picked, mut dx) = ([9.0; 4], [9; 4], [9.0; 10]);
    max_pool(&X, &SHAPE, &mut out, &mut picked).unwrap();
    assert_eq!((out, picked), ([3.0, 4.0, 5.0, -8.0], [1, 0, 0, 1]));
    max_pool_gradient(&[1.0, 2.0, 3.0, 4.0], &picked, &SHAPE, &mut dx).unwrap();
    assert_eq!(dx, [0.0, 2.0, 1.0, 0.0, 3.0, 0.0, 0.0, 4.0, 0.0, 0.0]);
}

#[test]
fn worked_means_share_equally() {
    let (mut out, mut dx) = ([9.0; 4], [9.0; 10]);
    average_pool(&X, &SHAPE, &mut out).unwrap();
    assert_eq!(out, [2.0, 4.0, 0.0, -8.5]);
    average_pool_gradient(&[2.0, 4.0, 6.0, 8.0], &SHAPE, &mut dx).unwrap();
    assert_eq!(dx, [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 0.0, 0.0]);
    let mut out = [9.0; 2];
    global_average_pool(&X, 5, 2, &mut out).unwrap();
    assert_eq!(out, [20.6, 18.0]);
    global_average_pool_gradient(&[5.0, 10.0], 5, 2, &mut dx).unwrap();
    assert_eq!(dx, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn not_a_number_and_infinities_are_picked_in_order() {
    let shape = PoolShape { length: 3, width: 1, size: 3 };
    let (mut out, mut picked) = ([0.0], [9]);
    max_pool(&[1.0, f32::NAN, f32::NAN], &shape, &mut out, &mut picked).unwrap();
    assert!(out[0].is_nan() && picked == [1]);
    max_pool(&[f32::NEG_INFINITY; 3], &shape, &mut out, &mut picked).unwrap();
    assert_eq!((out, picked), ([f32::NEG_INFINITY], [0]));
}

#[test]
fn every_instruction_set_and_any_neighbour_give_the_same_bits() {
    let shape = PoolShape { length: 23, width: 33, size: 4 };
    let x: Vec<f32> = (0..6 * 23 * 33).map(|i| (i as f32 * 0.9).sin()).collect();
    let count = shape.output();
    let (mut out, mut picked) = (vec![0.0; 6 * count], vec![0; 6 * count]);
    max_pool(&x, &shape, &mut out, &mut picked).unwrap();
    let mut means = out.clone();
    average_pool(&x, &shape, &mut means).unwrap();
    let last = &x[5 * 23 * 33..];
    for isa in Isa::available() {
        let (mut alone, mut index) = (vec![0.0; count], vec![9; count]);
        pick(isa, shape, last, &mut alone, &mut index);
        assert_eq!((&alone[..], &index[..]), (&out[5 * count..], &picked[5 * count..]), "{isa:?}");
        average(isa, shape, last, &mut alone);
        assert_eq!(alone, means[5 * count..], "{isa:?}");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let (mut out, mut picked) = ([0.0; 4], [0; 4]);
    assert!(max_pool(&X[..9], &SHAPE, &mut out, &mut picked).is_err());
    assert!(max_pool(&X, &SHAPE, &mut out[..3], &mut picked).is_err());
    assert!(max_pool(&X, &SHAPE, &mut out, &mut picked[..3]).is_err());
    for size in [0, 70_000] {
        let shape = PoolShape { size, ..SHAPE };
        assert!(max_pool(&X, &shape, &mut out, &mut picked).is_err());
        assert!(average_pool(&X, &shape, &mut out).is_err());
    }
    let longer = PoolShape { size: 6, ..SHAPE };
    assert!(max_pool(&X, &longer, &mut [], &mut []).is_ok());
    let mut dx = [9.0; 10];
    max_pool_gradient(&[], &[], &longer, &mut dx).unwrap();
    assert_eq!(dx, [0.0; 10]);
    assert!(global_average_pool(&X, 0, 2, &mut out).is_err());
}
