//! Tests of the public interface on a real file system.
mod engine;
mod sink;
