// A receiver with Spring Boot: the controller of an application that has spring-boot-starter-web,
// spring-boot-starter-jdbc, com.standardwebhooks:standardwebhooks, a data source, and this table:
//
//   CREATE TABLE inbox (webhook_id VARCHAR(64) PRIMARY KEY, body TEXT, done BOOLEAN)
//
// In application.properties: webhook.secret=${SECRET}. The @SpringBootApplication needs
// @EnableScheduling, which runs the work.

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.standardwebhooks.Webhook;
import com.standardwebhooks.exceptions.WebhookVerificationException;
import java.net.http.HttpHeaders;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.dao.DuplicateKeyException;
import org.springframework.http.ResponseEntity;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.scheduling.annotation.Scheduled;
import org.springframework.transaction.support.TransactionTemplate;
import org.springframework.util.MultiValueMap;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RestController;

@RestController
public class Receiver {
    private final ObjectMapper json = new ObjectMapper();
    private final JdbcTemplate database;
    private final TransactionTemplate transaction;
    private final Webhook webhook;

    Receiver(
            JdbcTemplate database,
            TransactionTemplate transaction,
            @Value("${webhook.secret}") String secret)
            throws Exception {
        this.database = database;
        this.transaction = transaction;
        this.webhook = new Webhook(secret);
    }

    @PostMapping("/callback")
    ResponseEntity<Map<String, String>> callback(
            @RequestHeader MultiValueMap<String, String> headers,
            @RequestBody(required = false) byte[] body) {
        String text = body == null ? "" : new String(body, StandardCharsets.UTF_8);
        try {
            webhook.verify(text, HttpHeaders.of(headers, (name, value) -> true));
            json.readTree(text).required("changes");
        } catch (WebhookVerificationException error) {
            return answer(401, "401", "not signed by our secret");
        } catch (JsonProcessingException | IllegalArgumentException error) {
            return answer(400, "400", "not JSON");
        }
        try {
            String id = headers.getFirst("webhook-id");
            database.update("INSERT INTO inbox VALUES (?, ?, FALSE)", id, text);
        } catch (DuplicateKeyException known) {
            // It has been acknowledged, and is again.
        }
        return answer(200, "000", "成功");
    }

    private static ResponseEntity<Map<String, String>> answer(int status, String code, String msg) {
        return ResponseEntity.status(status).body(Map.of("code", code, "msg", msg));
    }

    @Scheduled(fixedDelay = 1000)
    void workAfterwards() {
        for (var row : database.queryForList("SELECT * FROM inbox WHERE NOT done")) {
            transaction.executeWithoutResult(
                    status -> {
                        work((String) row.get("body"));
                        String done = "UPDATE inbox SET done = TRUE WHERE webhook_id = ?";
                        database.update(done, row.get("webhook_id"));
                    });
        }
    }

    /** Your own. What it writes to the database is there with the row's mark, or not at all. */
    private void work(String body) {
        try {
            JsonNode event = json.readTree(body);
            System.out.println(event.get("event_status") + " " + event.get("changes"));
        } catch (JsonProcessingException error) {
            throw new IllegalStateException(error);
        }
    }
}
