//! The network in the emulator against its published code, and against itself.

use crate::model::testing::Supervised;

fn network() -> Supervised {
    Supervised {
        fixture: "sei-tiny",
        case: "centered_173_odd",
        states: "spline",
        config: serde_json::json!({
            "sequence_length": 70, "n_genomic_features": 5, "channels": [3, 4, 6], "spline_df": 5,
        }),
        length: 70,
        values: 30,
        together: 17,
    }
}

#[test]
fn the_spline_layer_and_predictions_are_those_of_upstream() {
    network().agrees_with_upstream();
}

#[test]
fn a_device_gives_nearly_the_states_of_the_cpu() {
    network().agrees_with_the_cpu();
}

#[test]
fn states_are_pooled_where_they_were_computed() {
    network().is_pooled_on_the_device();
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    network().is_the_same_alone();
}
