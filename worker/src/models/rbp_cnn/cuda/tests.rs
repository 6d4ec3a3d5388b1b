//! The network in the emulator against its published code, and against itself.

use crate::model::testing::Supervised;

fn network() -> Supervised {
    Supervised {
        fixture: "rbp-cnn-tiny",
        case: "full",
        states: "embedding",
        config: serde_json::json!({
            "model_type": "rbp-cnn", "sequence_length": 47, "filters": [3, 5], "dense": 4, "outputs": 2,
        }),
        length: 47,
        values: 20,
        together: 65,
    }
}

#[test]
fn the_embedding_and_predictions_are_those_of_upstream() {
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
