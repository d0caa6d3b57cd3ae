"""How far a run grows: a simulation of the driver on up to ten thousand workers."""
