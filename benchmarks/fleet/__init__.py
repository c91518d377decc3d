"""A day of audits on fixed fleets and on an autoscaled one, simulated."""
