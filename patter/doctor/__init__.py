"""The diagnosis: looks at credentials, numbers, the way in, the carriers' protocol and this machine, with a fix for each."""
