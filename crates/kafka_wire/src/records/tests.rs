//! Round trips, hand-made vectors and hostile bytes.
