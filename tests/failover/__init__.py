"""Failover of the database on real processes: three PostgreSQL servers under Patroni and etcd, each
in a network namespace of its own, and two routers under load.

`python -m tests.failover` strikes the primary six times, and the verdict of tests/chaos/ judges the
run. It needs root on Linux and what scripts/patroni installs.
"""
