//! Each trap of a faithful copy, on documents as the engine writes them.
