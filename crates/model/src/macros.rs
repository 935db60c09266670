/// `Err(Refusal)` with a formatted reason.
macro_rules! refuse {
    ($($arg:tt)*) => { Err($crate::refusal::Refusal::new(format!($($arg)*))) };
}
