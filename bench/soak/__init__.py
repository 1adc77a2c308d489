"""A long run of mixed load against a real `serve`: python -m bench.soak --minutes 30"""
