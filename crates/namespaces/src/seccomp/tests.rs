mod builder;
mod interpreter;
mod kernel;
mod profile;
mod random;
