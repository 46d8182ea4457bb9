"""The steps of verify_deploy.py."""
