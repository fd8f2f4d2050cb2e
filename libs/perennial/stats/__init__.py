"""What do two samples say about each other? Profiles, folds, tests of difference, charts and sequential decisions.

Pure numeric code that services share: numpy only (SciPy inside the few functions that need it), no I/O, no clock, no
randomness without a seed. Import the module that answers the question: :mod:`profile`, :mod:`fold`, :mod:`report`,
:mod:`quality`, :mod:`cusum`, :mod:`losses`, :mod:`sequential`, :mod:`drift`.
"""
