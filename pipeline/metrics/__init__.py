"""Every statistic of precept, each in one place: records and arrays in, numbers with their intervals out.

Nothing here asks a model, reads a store or decides. scipy and scikit-learn are imported inside the functions that use
them, so that a program that only needs the names starts fast.
"""
