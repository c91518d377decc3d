"""What an audit's evaluations come to: a report as data, and as one page."""
