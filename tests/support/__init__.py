"""What tests share: virtual time, and fakes that belong to no single folder."""
