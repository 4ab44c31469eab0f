"""The caller's side of a call: carriers and lines with one shape, `ports.Transport`."""
