//! placeholder of motif commands.
