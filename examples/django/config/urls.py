"""Which view answers what."""

from django.urls import path
from signup import views

urlpatterns = [
    path("signup", views.sign_up),
    path("codes/<str:user>", views.code),
    path("webhooks/sendcode", views.webhook),
]
