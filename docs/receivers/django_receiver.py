"""A receiver with Django, in one file: copy the view and its path into your project.

SECRET=whsec_... gunicorn --threads 8 --keep-alive 5 --bind 127.0.0.1:9002 django_receiver:app
"""

import json
import os

import inbox
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["SECRET"])


@csrf_exempt  # the signature proves the sender
@require_POST
def callback(request: HttpRequest) -> JsonResponse:
    try:
        webhook.verify(request.body, dict(request.headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        return JsonResponse({"code": "401", "msg": "not signed by our secret"}, status=401)
    try:
        json.loads(request.body)
    except ValueError:
        return JsonResponse({"code": "400", "msg": "not JSON"}, status=400)
    inbox.put(request.headers["webhook-id"], request.body)
    return JsonResponse({"code": "000", "msg": "成功"})


urlpatterns = [path("callback", callback)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
app = get_wsgi_application()
