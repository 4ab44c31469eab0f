"""The tests of Patter; `python -m tests` runs them with the checks that go before them."""
