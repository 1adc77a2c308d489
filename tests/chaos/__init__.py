"""Chaos on real processes: the promises of the delivery memory, under everything that goes wrong.

`python -m tests.chaos --seed 1` plays one run and judges it. tests/model/ checks the same promises
by the thousand in a simulated world; here the router, its store, its sockets and its death are
real. The seed fixes what is done and in what order it is begun; the wall clock decides what meets
what, so that a run played again is alike, not the same.
"""
