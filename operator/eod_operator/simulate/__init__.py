"""One trading day, simulated: what would each autoscaler have done, and how late would the records have been?

A day is a `World` (`world.py`) made of a `Scenario` (a YAML file) and some seeds. The engine plays all seeds of a day
at once and asks each policy through the port `scaler.py`, so that ours and the baselines see and may do exactly the
same. Nothing here knows a cluster: the policy that is simulated is the code that the operator runs.
"""
