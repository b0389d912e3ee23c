import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * Takes what Amazon MSK takes as a token, of the key AKIDBOATHOUSE: the address of a signed request for
 * kafka-cluster:Connect, in base64, that is not older than it says. Tokens that are taken are printed, so that their
 * signatures can be held against AWS's own library.
 */
public final class IamValidator implements AuthenticateCallbackHandler {
    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}

    @Override
    public void close() {}

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (!(callback instanceof OAuthBearerValidatorCallback)) {
                throw new UnsupportedCallbackException(callback);
            }
            OAuthBearerValidatorCallback asked = (OAuthBearerValidatorCallback) callback;
            try {
                asked.token(token(asked.tokenValue()));
                System.out.println("IamValidator: " + asked.tokenValue());
            } catch (RuntimeException error) {
                asked.error("invalid_token", null, null);
            }
        }
    }

    private static OAuthBearerToken token(String value) {
        URI address = URI.create(new String(Base64.getUrlDecoder().decode(value), StandardCharsets.UTF_8));
        Map<String, String> fields = new HashMap<>();
        for (String field : address.getRawQuery().split("&")) {
            String[] pair = field.split("=", 2);
            fields.put(pair[0], URLDecoder.decode(pair[1], StandardCharsets.UTF_8));
        }
        String[] scope = fields.get("X-Amz-Credential").split("/");
        require(address.getScheme().equals("https") && address.getPath().equals("/"));
        require(address.getHost().equals("kafka." + scope[2] + ".amazonaws.com"));
        require(scope[0].equals("AKIDBOATHOUSE") && scope[3].equals("kafka-cluster") && scope[4].equals("aws4_request"));
        require(fields.get("Action").equals("kafka-cluster:Connect"));
        require(fields.get("X-Amz-Algorithm").equals("AWS4-HMAC-SHA256"));
        require(fields.get("X-Amz-SignedHeaders").equals("host"));
        require(fields.get("X-Amz-Signature").matches("[0-9a-f]{64}"));
        require(fields.containsKey("User-Agent"));
        DateTimeFormatter format = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
        long begin = Instant.from(format.parse(fields.get("X-Amz-Date"))).toEpochMilli();
        long until = begin + 1000 * Long.parseLong(fields.get("X-Amz-Expires"));
        long now = System.currentTimeMillis();
        require(begin <= now + 1000 && now < until && until - begin <= 900_000);
        return new OAuthBearerToken() {
            @Override
            public String value() {
                return value;
            }

            @Override
            public Set<String> scope() {
                return Set.of();
            }

            @Override
            public long lifetimeMs() {
                return until;
            }

            @Override
            public String principalName() {
                return scope[0];
            }

            @Override
            public Long startTimeMs() {
                return begin;
            }
        };
    }

    private static void require(boolean holds) {
        if (!holds) {
            throw new IllegalArgumentException();
        }
    }
}
