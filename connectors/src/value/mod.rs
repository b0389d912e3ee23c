//! Text to Arrow values.
