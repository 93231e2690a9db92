"""All private names of Ray, Ray Tune and Ray Train in use: upgrades of Ray change only this package.

``core`` has what Ray's public API lacks about nodes and actors, ``raylet`` the calls to a node's own service, ``tune``
the subclasses and replacements in Tune, ``train`` the wrappers of errors in Ray Train. No other module imports a
private name; ``tests/seams`` has a test for each.
"""
