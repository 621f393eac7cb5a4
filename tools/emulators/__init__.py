"""Servers for the tests, on ports of loopback that nobody chose: object stores, FTP, SFTP, HTTP."""
