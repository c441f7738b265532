"""`python -m services.notifications`"""

from services.notifications.app import build
from services.notifications.settings import NotificationsSettings
from services.shared.kernel import serve

if __name__ == "__main__":
    serve(NotificationsSettings.load(), build)
