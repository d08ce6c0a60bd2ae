"""What a contact centre audits: services, the entity types in them and their actions.

Names are those of the vendor's published notification contract (SDK 269.0.0) and of a live
service mapping; which action goes with which entity type is known for a few services only and
assumed for the others. The shares are made up: few services make most of the noise.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class EntityType:
    """A kind of thing that a service audits.

    Attributes:
        name: as in `entityType`.
        actions: what can happen to it; the first is the most frequent.
    """

    name: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """A part of the organisation that writes audits.

    Attributes:
        name: as in `serviceName`.
        share: how many audits it writes, relative to the others.
        realtime: whether the realtime query knows it too.
        entities: what it audits; the first is the most frequent.
    """

    name: str
    share: int
    realtime: bool
    entities: tuple[EntityType, ...]


# name, share, `r` if the realtime query knows the service : entity types with their actions
_TABLE: Final = """
AgentConfig 6 r: DefaultPanelSettings Update; Settings Update
Alerting 4 -: Rule Create Update Delete; AlertablePresencesOverrides Update
AnalyticsReporting 60 r: Exports Create Delete; ScheduledExports Create Update Delete;\
 Dashboard Create Update Delete; DashboardSettings Update; SavedViews Create Update Delete
AnomalyDetection 2 -: AnomalyDetectionSettings Update; QueueAnomaly Create Update
Architect 90 r: Flow Checkin Checkout Create Delete Publish Debug Save;\
 Prompt Create Update Delete; PromptResource Update Upload; DependencyTrackingBuild Start;\
 IVR Create Update Delete; ScheduleGroup Create Update Delete;\
 Schedule Create Update Delete; EmergencyGroup Update
Assistants 3 -: Assistant Create Update Delete; AssistantQueue Assign Unassign
Billing 1 r: EnterpriseAgreement Update
BusinessRules 3 -: DecisionTable Create Update Delete; DecisionTableRow Create Update Delete
Callback 4 r: Settings Update
Coaching 18 r: Appointment Create Update Delete; Annotation Create Update Delete;\
 Status Update
ContactCenter 420 r: Queue MemberUpdate MemberAdd MemberRemove Update Create Delete WrapupCodeAdd\
 WrapupCodeRemove; WrapupCode Create Update Delete
ContentManagement 12 r: Document Create Update Delete View Download; Workspace Create MemberAdd\
 MemberRemove TagAdd
Conversations 22 -: Conversation Update; BulkDisconnectRequest Create
ConversationRefinement 1 -: RefinementConfiguration Update
Datatables 28 r: Row Update Create Delete; Schema Create Update Delete
Directory 330 r: User Update Create Delete; Organization Update; Profile Update;\
 OrganizationSettings Update
DSAR 1 -: DsarRequest Create Update
Emails 8 r: InboundDomain Create Delete; InboundRoute Create Update Delete; OutboundDomain Verify
EmbeddedAnalytics 1 -: Dashboard View
EmployeeEngagement 5 r: Recognition Create; OperationalEvent Update
EmployeePerformance 9 r: Profile Update; ProfileMembers Replace; Metric Create Update;\
 ExternalMetricsData Write
ExternalContacts 70 r: Contact Update Create Delete; ExternalOrg Create Update Delete;\
 Note Create Delete; Relationship Create Delete
ExternalContactsExport 1 -: BulkJob Create Complete
Gamification 3 r: Contest Create Update Complete
GDPR 2 r: GdprRequest Create Update
GenesysCloudCopilot 2 -: Assistant Update
Groups 110 r: DirectoryGroup Update Create Delete; SkillGroup Create Update Delete;\
 Team Create Update Delete; SkillGroupDefinition Create Update Delete
Integrations 45 r: Integration Update Create Delete; Action Create Update Delete Execute;\
 ActionDraft Create Update Publish; Credential Create Update Delete
JourneyAnalytics 2 r: JourneyView Create Update Delete
Knowledge 40 r: KnowledgeDocument Update Create Delete Publish; KnowledgeBase Create Update Delete;\
 KnowledgeCategory Create Update Delete; KnowledgeLabel Create Update Delete
LanguageUnderstanding 8 r: Feedback Create; IntentMiner Create Execute; TopicMiner Create
Learning 26 r: Module Create Update Publish; Assignment Create Update Delete; Rule Update
Limits 1 r: OrganizationLimits Update
Locations 3 -: Location Create Update Delete
LogCapture 2 r: Configuration EnableCapture DownloadCapture
Marketplace 1 r: Product Create; VendorListing Update
Messaging 14 r: SupportedContent Create Update Delete; Deployment Create Update; Sender Update
NerService 1 r: CustomEntity Create Update Delete
NumberPurchasing 1 r: NumberOrder Create Complete; NumberPlan Update
Onboarding 1 r: OrganizationFeature Update
Outbound 150 r: ContactList Append Create Update Delete Export; Campaign Update Start Stop Create;\
 DNCList Append Update; CampaignRule Execute Update; AttemptLimits Create Update;\
 MessagingCampaign Start Stop Update; RuleSet Create Update Delete
PeoplePermissions 260 r: AuthUser Authenticate AuthenticationFailed ChangePassword; Role MemberAdd\
 MemberRemove Update Create LicenseUpdate; UserSamlAuthentication Authenticate\
 AuthenticationFailed SingleLogout; OAuthClient Create Update Delete; AccessToken Create Delete;\
 OAuthClientAuthorization Authorize Deauthorize; IdentityProvider Update
PredictiveEngagement 10 r: Segment Create Update Delete; ActionMap Create Update Delete;\
 Outcome Create Update
Presence 190 r: UserPresence Update; OrganizationSettings Update
ProcessAutomation 5 r: Trigger Create Update Delete
Quality 85 r: Evaluation Update Create Delete; EvaluationForm Create Update Publish;\
 Survey Create Update; Calibration Create Update; Policy Update; Recording Export Delete
ResponseManagement 16 r: Response Create Update Delete; ResponseLibrary Create Update;\
 ResponseAsset Upload Delete
Routing 120 r: AgentRoutingInfo Update; RoutingSkill Create Delete; RoutingLanguage Create Delete;\
 RoutingUtilizationTag Create; MaxOrgRoutingUtilizationCapacity Update
SCIM 55 r: User Update Create Delete; DirectoryGroup Update Create
Scripter 14 r: ComposerScript Update Create Delete; ComposerPublishedScript Publish; ComposerPage\
 Update
SocialEscalationRules 1 -: EscalationRule Create Update Delete
SocialListening 2 r: Topic Create Update Delete
SpeechAndTextAnalytics 24 r: Topic Update Create Delete; Program Create Update Publish;\
 SentimentFeedback Create; TranscriptionSettings Update
Supportability 3 r: MediaDiagnosticsTraceFile Create Download; SupportFile Upload
TaskManagement 48 r: Workbin Create Update; Worktype Create Update; Rules Execute
Telephony 95 r: Phone Update Create Delete; Line Update; Trunk Update; Edge Update Restore;\
 Site Update Create; DID Assign Unassign; ExtensionPool Create Update; PhoneBase Create Update
Triggers 6 -: Trigger Execute Create Update Delete
UsersRules 2 -: Rule Create Update
WebDeployments 7 r: Deployment Create Update Publish; ConfigurationVersion Create Publish
Webhooks 2 r: Webhook Create Update Delete
WorkforceManagement 130 r: Schedule Update Publish Create; TimeOffRequest Create Update Approve;\
 ManagementUnit Update; ShiftTrade Create Approve; Forecast Create; AdherenceExplanation Create;\
 WorkPlan Create Update; ActivityCode Update
"""


def _read(line: str) -> Service:
    head, entities = line.split(":")
    name, share, realtime = head.split()
    kinds = [part.split() for part in entities.split(";")]
    return Service(
        name,
        int(share),
        realtime == "r",
        tuple(EntityType(kind, tuple(actions)) for kind, *actions in kinds),
    )


SERVICES: Final = tuple(_read(line) for line in _TABLE.strip().splitlines())
REALTIME_SERVICES: Final = frozenset(service.name for service in SERVICES if service.realtime)
