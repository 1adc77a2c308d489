"""How the router does at five times its capacity: python -m bench.overload"""
