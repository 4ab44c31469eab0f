"""The far side of the wire, on this machine: a carrier and vendors that speak their real protocol, strictly."""
