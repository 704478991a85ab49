//! Nothing of its own: see the folder's targets.
