"""`python -m services.groups`"""

from services.groups.app import build
from services.groups.settings import GroupsSettings
from services.shared.kernel import serve

if __name__ == "__main__":
    serve(GroupsSettings.load(), build)
