"""Reports: an audit's evaluations as data and as one page."""
