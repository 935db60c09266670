//! Nothing but the tests of the house: who may use whom, how long files and functions may be, what documents say.
