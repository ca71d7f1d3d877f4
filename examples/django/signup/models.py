"""Who signs up, and what became of the code."""

from django.db import models


class SignUp(models.Model):
    user = models.CharField(max_length=64, unique=True)
    state = models.CharField(max_length=20, default="on its way")
