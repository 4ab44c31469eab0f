"""The way out: vendors, local servers, user code, and the engines inside the process. Errors are converted at this border."""
